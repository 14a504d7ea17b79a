//! A record of all mail: extra recipients, hashes in the log.

use super::world::{World, address, failed};

#[test]
fn an_extra_recipient_gets_every_message_and_every_bounce() {
    let mut world = World::with(|config| config.extra_recipients = vec![address("log@here")]);
    world.script.answer("a@far", &[failed()]);
    world.submit("s@far", &["a@far"]);
    world.drain();
    assert_eq!(world.count(), 0);
    let tried = world.script.tried();
    assert_eq!(tried["log@here"], 2, "the message and its bounce");
    assert_eq!((tried["a@far"], tried["s@far"]), (1, 1));
}

#[test]
fn a_hash_is_logged_before_anything_is_done() {
    let mut world = World::with(|config| config.log_hashes = true);
    world.submit("s@far", &["a@far"]);
    world.drain();
    // What sha256sum says of the text.
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    hash msg 1: sha256 1204da4a35a187090b26a9862654483c8561c99153975907f319e6bf6b5d334c
    starting delivery 1: msg 1 to remote a@far
    delivery 1: success: accepted/
    end msg 1
    ");
}

#[test]
fn no_message_goes_unhashed_past_a_restart() {
    let mut world = World::with(|config| config.log_hashes = true);
    world.submit("s@far", &["a@far"]);
    world.restart();
    world.drain();
    assert_eq!(world.log().matches("sha256").count(), 1);
    assert_eq!(world.count(), 0);
}
