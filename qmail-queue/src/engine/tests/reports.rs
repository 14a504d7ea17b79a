//! Bounces in the form of a report, and bounces with the beginning of a message only.

use qmail_core::Outcome;
use qmail_core::bounce::Form;

use super::world::{World, failed};

/// The text of the one bounce.
fn bounce(world: &World) -> String {
    let jobs = world.script.jobs.lock().unwrap();
    let bounces: Vec<_> = jobs.iter().filter(|job| job.sender.is_empty()).collect();
    assert_eq!(bounces.len(), 1);
    bounces[0].text.clone()
}

#[test]
fn a_failure_is_told_as_a_report() {
    let mut world = World::with(|config| {
        config.bounce_form = Form::DeliveryStatus;
        config.boundary_seed = 1;
    });
    let refused = "192.0.2.1 does not like recipient.\nRemote host said: 550 5.7.1 no\n\nGiving up on 192.0.2.1.\n";
    world
        .script
        .answer("b@far", &[Outcome::Failed(refused.into())]);
    world.script.answer("joe-c@virtual", &[failed()]);
    world.submit("s@far", &["b@far", "c@virtual"]);
    world.drain();
    insta::assert_snapshot!(bounce(&world), @r#"
    Received: (qmail 99 invoked for bounce); 9 Sep 2001 01:46:40 -0000
    Date: 9 Sep 2001 01:46:40 -0000
    From: MAILER-DAEMON@here
    To: s@far
    Subject: failure notice
    Message-ID: <1000000000.7e70d58c4276b1bece43a459288949a4@here>
    Auto-Submitted: auto-replied
    MIME-Version: 1.0
    Content-Type: multipart/report; report-type=delivery-status;
    	boundary="7e70d58c4276b1bece43a459288949a4"
    Content-Transfer-Encoding: 8bit

    --7e70d58c4276b1bece43a459288949a4
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: 8bit

    Hi. This is the qmail-send program at here.
    I'm afraid I wasn't able to deliver your message to the following addresses.
    This is a permanent error; I've given up. Sorry it didn't work out.

    <c@virtual>:
    no such user

    <b@far>:
    192.0.2.1 does not like recipient.
    Remote host said: 550 5.7.1 no
    /Giving up on 192.0.2.1.


    --7e70d58c4276b1bece43a459288949a4
    Content-Type: message/delivery-status

    Reporting-MTA: dns; here

    Final-Recipient: rfc822; c@virtual
    Action: failed
    Status: 5.0.0
    Diagnostic-Code: x-qmail; no such user

    Final-Recipient: rfc822; b@far
    Action: failed
    Status: 5.7.1
    Diagnostic-Code: smtp; 550 5.7.1 no

    --7e70d58c4276b1bece43a459288949a4
    Content-Type: message/rfc822
    Content-Transfer-Encoding: 8bit

    Return-Path: <s@far>
    Received: (qmail 99 invoked from network); 9 Sep 2001 01:46:40 -0000
    Subject: test

    body

    --7e70d58c4276b1bece43a459288949a4--
    "#);
}

#[test]
fn the_boundary_is_another_for_each_message() {
    let boundary = |seed| {
        let mut world = World::with(|config| {
            config.bounce_form = Form::DeliveryStatus;
            config.boundary_seed = seed;
        });
        world.script.answer("b@far", &[failed()]);
        world.submit("s@far", &["b@far"]);
        world.drain();
        let text = bounce(&world);
        let start = text.find("boundary=").unwrap();
        text[start..start + 50].to_owned()
    };
    assert_ne!(boundary(1), boundary(2));
}

#[test]
fn a_bounce_carries_as_many_octets_as_it_may() {
    for (octets_max, whole) in [(10_000, true), (85, false)] {
        let mut world = World::with(|config| config.bounce_message_octets_max = Some(octets_max));
        world.script.answer("b@far", &[failed()]);
        world.submit("s@far", &["b@far"]);
        world.drain();
        let text = bounce(&world);
        let (_, copy) = text.split_once("Return-Path: <s@far>\n").unwrap();
        assert_eq!(copy.contains("\nbody\n"), whole, "{copy}");
        let cut = "\n\n--- The message had 89 bytes. The rest of it is left out here.\n";
        assert_eq!(copy.ends_with(cut), !whole, "{copy}");
    }
}
