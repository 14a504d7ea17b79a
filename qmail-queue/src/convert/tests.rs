//! Conversions back and forth, and cut short.
#![expect(
    clippy::disallowed_methods,
    reason = "what is not a spool's own file is looked at as anybody would"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::executor::block_on;
use qmail_core::Content;

use super::*;
use crate::split::{self, SendMutex};
use crate::spool::kinds::Kind;
use crate::{JournalConfig, Workers};

fn address(text: &str) -> Address {
    Address::new(text.to_owned()).unwrap()
}

fn split() -> SplitSpool {
    SplitSpool::over(Arc::new(Kind::Split.disk()), Workers::inline())
}

fn journal() -> JournalSpool {
    let config = JournalConfig {
        segment_octets: 4096,
        text_octets_max: 4096,
    };
    JournalSpool::over(Arc::new(Kind::Journal.disk()), Workers::inline(), config).unwrap()
}

/// One message of every kind.
async fn fill(spool: &dyn Spool) -> Result<(), SpoolError> {
    for number in 0..6_u8 {
        let mut draft = spool.begin(entry(5, 6)).await?;
        let text = vec![b'a' + number; 10 + 10_000 * usize::from(number / 5)];
        draft.write(text.into()).await?;
        let recipients = vec![address("l@here"), address("a@there"), address("b@there")];
        let envelope = Envelope::new(address("me@here").into(), recipients);
        let id = draft.commit(&envelope).await?.id;
        if number == 0 {
            continue;
        }
        let routed = Routed {
            sender: envelope.sender,
            local: vec![address("l@here")],
            remote: vec![address("a@there"), address("b@there")],
            birth_seconds: 1_000,
            failures: if number == 2 {
                b"no\n\n".to_vec()
            } else {
                Vec::new()
            },
        };
        spool.route(id, routed).await?;
        if number == 3 {
            let all = spool
                .recipients(id, Channel::Remote, Position::START, 9)
                .await?;
            spool
                .mark_done(id, Channel::Remote, &[all[1].position])
                .await?;
            spool.note_failure(id, b"never\n\n").await?;
        }
        if number >= 4 {
            spool.close_channel(id, Channel::Local).await?;
        }
        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000);
        for channel in Channel::ALL {
            spool.put_off(id, channel, due).await?;
        }
        if number % 2 == 1 {
            spool.set_held(id, true).await?;
        }
    }
    Ok(())
}

/// All that is known, without the numbers.
async fn known(spool: &dyn Spool) -> Result<Vec<String>, ConvertError> {
    let mut all = Vec::new();
    spool.scan(&mut |found| all.push(found)).await?;
    let held = spool.held().await?;
    let mut known = Vec::new();
    for found in all {
        let (id, state) = match found {
            Found::Incoming(id) => (id, format!("{:?}", spool.incoming(id).await?)),
            Found::Routed {
                id,
                birth,
                local,
                remote,
            } => {
                let routed = routed(spool, id, birth).await?;
                let held = held.contains(&id);
                let failures = match spool.failures(id).await? {
                    Some(failures) => whole(&*failures).await,
                    None => Vec::new(),
                };
                let failures = String::from_utf8_lossy(&failures);
                let state = format!("{routed:?} {local:?} {remote:?} {failures} {held}");
                (id, state)
            }
            Found::Damaged { .. } => panic!("{found:?}"),
        };
        let text = whole(&*spool.content(id).await?).await;
        known.push(format!("{state} {}", String::from_utf8_lossy(&text)));
    }
    known.sort();
    Ok(known)
}

async fn whole(content: &dyn Content) -> Vec<u8> {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    text
}

async fn copy_all(
    from: &dyn Spool,
    to: &dyn Adopt,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> u64 {
    let mut copying = Copying::default();
    let damages = copying.all(from, to, progress).await.unwrap();
    assert_eq!(damages, []);
    copying.messages()
}

#[test]
fn everything_that_is_known_comes_along_and_back() {
    block_on(async {
        let (first, second, third) = (split(), journal(), split());
        fill(&first).await.unwrap();
        let mut told = Vec::new();
        let mut progress = |done, all| told.push((done, all));
        copy_all(&first, &second, &mut progress).await;
        assert_eq!(told, (0..=6).map(|done| (done, 6)).collect::<Vec<_>>());
        assert_eq!(known(&second).await.unwrap(), known(&first).await.unwrap());
        copy_all(&second, &third, &mut |_, _| ()).await;
        assert_eq!(known(&third).await.unwrap(), known(&first).await.unwrap());
    });
}

/// A queue directory with one message of every kind.
fn queue(form: Form) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let queue = home.path().join("queue");
    split::create_locks(&queue).unwrap();
    match form {
        Form::Split => SplitSpool::create(&queue).unwrap(),
        Form::Journal => JournalSpool::create(queue.join("journal")).unwrap(),
    }
    block_on(fill(&*open(&queue))).unwrap();
    (home, queue)
}

fn open(queue: &Path) -> Box<dyn Spool> {
    let workers = Workers::inline();
    match Form::of(queue).unwrap() {
        Form::Split => Box::new(SplitSpool::open(queue, workers).unwrap()),
        Form::Journal => Box::new(JournalSpool::open(queue.join("journal"), workers).unwrap()),
    }
}

fn known_in(queue: &Path) -> Vec<String> {
    block_on(known(&*open(queue))).unwrap()
}

fn names(queue: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(queue).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn change(
    queue: &Path,
    change: Change,
    made: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<Changed, ChangeError> {
    let lock = SendMutex::lock(queue).unwrap();
    let mut progress = |_, _| ();
    block_on(change.run(queue, &lock, &Workers::inline(), &mut progress, made))
}

#[test]
fn a_queue_directory_gets_the_other_form_and_back() {
    let (_home, queue) = queue(Form::Split);
    let (before, split_names) = (known_in(&queue), names(&queue));
    for (form, expected) in [
        (
            Form::Journal,
            &["journal".to_owned(), "lock".to_owned()][..],
        ),
        (Form::Split, &split_names),
    ] {
        let changed = change(&queue, Change::new(form), |_| Ok(())).unwrap();
        assert_eq!((changed.messages, changed.kept), (6, None));
        assert_eq!(names(&queue), expected);
        assert_eq!(known_in(&queue), before);
        let again = change(&queue, Change::new(form), |_| Ok(())).unwrap_err();
        assert!(matches!(again, ChangeError::Already { .. }), "{again}");
    }
}

#[test]
fn a_change_that_fails_at_its_end_changes_nothing() {
    for (form, other) in [(Form::Split, Form::Journal), (Form::Journal, Form::Split)] {
        let (_home, queue) = queue(form);
        let (before, all) = (known_in(&queue), names(&queue));
        let failed = change(&queue, Change::new(other), |_| Err(io::Error::other("no")));
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(names(&queue), all);
        assert_eq!(known_in(&queue), before);
    }
}

#[test]
fn what_is_no_message_is_told_and_never_removed() {
    let (_home, queue) = queue(Form::Split);
    let stray = queue.join("todo/README");
    std::fs::write(&stray, "look here").unwrap();
    let (before, all) = (block_on(sound(&*open(&queue))), names(&queue));
    let refused = change(&queue, Change::new(Form::Journal), |_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("README"), "{refused}");
    assert_eq!(names(&queue), all);
    let despite = Change::new(Form::Journal).despite_damage();
    let changed = change(&queue, despite, |_| Ok(())).unwrap();
    assert_eq!(changed.damages.len(), 1);
    let kept = changed.kept.unwrap();
    assert_eq!(kept, queue.join("kept-1"));
    assert_eq!(
        std::fs::read(kept.join("todo/README")).unwrap(),
        b"look here"
    );
    assert_eq!(known_in(&queue), before);
    // There is nothing to be told of the new form.
    assert!(change(&queue, Change::new(Form::Split), |_| Ok(())).is_ok());
}

/// Messages that cannot be read: each is told, and left behind only if that is asked for.
#[test]
fn messages_that_cannot_be_read_are_told_and_never_lost() {
    type Damage = fn(&Path) -> PathBuf;
    let damages: [Damage; 4] = [
        // An envelope with something unknown in it.
        |queue| {
            let name = &names(&queue.join("todo"))[0];
            let path = queue.join("todo").join(name);
            let mut envelope = std::fs::read(&path).unwrap();
            envelope.extend_from_slice(b"Xwhat\0");
            std::fs::write(&path, envelope).unwrap();
            path
        },
        // The same, without a text.
        |queue| {
            let name = &names(&queue.join("todo"))[0];
            let id: u64 = name.parse().unwrap();
            let path = queue.join(format!("mess/{}/{id}", id % 23));
            std::fs::remove_file(&path).unwrap();
            path
        },
        // A routed one without a text.
        |queue| {
            let id = first_routed(queue);
            let path = queue.join(format!("mess/{}/{id}", id % 23));
            std::fs::remove_file(&path).unwrap();
            path
        },
        // One whose recipients mean nothing.
        |queue| {
            let id = first_routed(queue);
            let path = queue.join(format!("remote/{}/{id}", id % 23));
            std::fs::write(&path, "what").unwrap();
            path
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let (_home, queue) = queue(Form::Split);
        let path = damage(&queue);
        let path = path.strip_prefix(&queue).unwrap();
        let all = names(&queue);
        let refused = change(&queue, Change::new(Form::Journal), |_| Ok(())).unwrap_err();
        assert!(
            matches!(&refused, ChangeError::Damaged { first, count: 1 } if first.path == path),
            "{number}: {refused}"
        );
        assert_eq!(names(&queue), all);
        let despite = Change::new(Form::Journal).despite_damage();
        let changed = change(&queue, despite, |_| Ok(())).unwrap();
        assert_eq!(
            (changed.messages, changed.damages.len()),
            (5, 1),
            "{number}"
        );
        assert_eq!(known_in(&queue).len(), 5);
        // The old one is whole, and can be taken back.
        let kept = changed.kept.unwrap();
        assert_eq!(
            path.parent().map(|parent| kept.join(parent).is_dir()),
            Some(true)
        );
        assert_eq!(names(&kept).len(), 9, "{number}");
        let sound = change(&queue, Change::new(Form::Split), |_| Ok(()));
        assert!(sound.is_ok(), "{number}: {sound:?}");
    }
}

/// The number of some routed message of a split queue.
fn first_routed(queue: &Path) -> u64 {
    let parts = (0..23).map(|part| queue.join(format!("info/{part}")));
    let mut ids = parts.flat_map(|part| names(&part));
    ids.next().unwrap().parse().unwrap()
}

/// What a start of a journal has put aside is no part of it any more. It is not forgotten for that.
#[test]
fn what_a_journal_has_put_aside_is_told() {
    let (_home, queue) = queue(Form::Journal);
    let before = known_in(&queue);
    let segment = queue.join("journal/0000000001.log");
    let mut octets = std::fs::read(&segment).unwrap();
    // In the first text.
    let text = b"aaaaaaaaaa";
    let at = octets
        .windows(text.len())
        .position(|seen| seen == text)
        .unwrap();
    octets[at] = b'b';
    std::fs::write(&segment, octets).unwrap();
    // The start that tells of it comes before the conversion.
    drop(open(&queue));
    let all = names(&queue);
    let refused = change(&queue, Change::new(Form::Split), |_| Ok(())).unwrap_err();
    assert!(matches!(refused, ChangeError::Damaged { .. }), "{refused}");
    assert_eq!(names(&queue), all);
    let aside = queue.join("journal/damaged/0000000001-64");
    assert!(aside.exists());
    let despite = Change::new(Form::Split).despite_damage();
    let changed = change(&queue, despite, |_| Ok(())).unwrap();
    assert_eq!(changed.messages as usize, before.len() - 1);
    let aside = changed.kept.unwrap().join("journal/damaged/0000000001-64");
    let kept = std::fs::read(aside).unwrap();
    assert!(kept.windows(9).any(|seen| seen == &text[1..]));
    assert_eq!(known_in(&queue).len(), before.len() - 1);

    let (_home, queue) = self::queue(Form::Journal);
    std::fs::write(queue.join("journal/damaged/0000000007-64"), "mail").unwrap();
    let refused = change(&queue, Change::new(Form::Split), |_| Ok(())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "journal/damaged/0000000007-64 is no message: octets that were damaged or torn were put aside there, and messages may be among them, and 0 more"
    );
}

/// A journal that was just made says that it is whole.
#[test]
fn a_conversion_closes_the_journal_that_it_makes() {
    let (_home, queue) = queue(Form::Split);
    change(&queue, Change::new(Form::Journal), |_| Ok(())).unwrap();
    let journal = JournalSpool::open(queue.join("journal"), Workers::inline()).unwrap();
    assert!(journal.was_closed());
    assert_eq!(journal.count(), 6);
}

/// A copy is not believed for its count: it must hold what the old spool held.
#[test]
fn a_copy_that_differs_is_noticed() {
    block_on(async {
        let (from, to) = (split(), journal());
        fill(&from).await.unwrap();
        let mut copying = Copying::default();
        copying.all(&from, &to, &mut |_, _| ()).await.unwrap();
        compare(&to, &copying).await.unwrap();
        let mut routed = None;
        let mut found = |found| {
            if let Found::Routed {
                id,
                remote: Some(_),
                ..
            } = found
            {
                routed = Some(id);
            }
        };
        to.scan(&mut found).await.unwrap();
        to.note_failure(routed.unwrap(), b"no\n\n").await.unwrap();
        let told = compare(&to, &copying).await.unwrap_err().to_string();
        assert_eq!(
            told,
            "the copy holds 6 messages, which are not the 6 that were copied"
        );
    });
}

/// [`known`], but for what is no message.
async fn sound(spool: &dyn Spool) -> Vec<String> {
    let (copy, mut copying) = (journal(), Copying::default());
    copying.all(spool, &copy, &mut |_, _| ()).await.unwrap();
    known(&copy).await.unwrap()
}

/// Another program has the queue open, and puts messages into it all the while.
#[test]
fn what_comes_meanwhile_comes_along_or_is_refused() {
    let (_home, queue) = queue(Form::Split);
    let other = SplitSpool::open(&queue, Workers::inline()).unwrap();
    let submit = || {
        let accept = async {
            let mut draft = other.begin(entry(7, 7)).await?;
            draft.write("late".into()).await?;
            let envelope = Envelope::new(address("me@here").into(), vec![address("l@here")]);
            draft.commit(&envelope).await
        };
        accept.now_or_never().expect("nothing waits").is_ok()
    };
    let lock = SendMutex::lock(&queue).unwrap();
    let mut accepted = 6;
    let mut late = Vec::new();
    let mut progress = |done, _| {
        if done == 3 || done == 6 {
            accepted += usize::from(submit());
        }
    };
    let made = |_: &Path| {
        late.push(submit());
        Ok(())
    };
    let change = Change::new(Form::Journal);
    let changed = block_on(change.run(&queue, &lock, &Workers::inline(), &mut progress, made));
    assert_eq!(changed.unwrap().messages, 8);
    late.push(submit());
    assert_eq!((accepted, late), (8, vec![false, false]));
    assert_eq!(known_in(&queue).len(), 8);
}

/// Every state that a crash among the moves can leave, some of the moves being durable and others not.
#[test]
fn every_state_in_between_is_put_in_order() {
    for (from, to) in [(Form::Split, Form::Journal), (Form::Journal, Form::Split)] {
        for committed in [false, true] {
            // Names may become durable in any order: those up to one, those from one on, one alone, all but one.
            for name in 0..9 {
                let (one, all) = (1_u32 << name, (1 << 9) - 1);
                for moved in [one - 1, all & !(one - 1), one, all & !one] {
                    between(from, to, committed, moved);
                }
            }
        }
    }
}

/// Each bit of `moved` says of a name whether it is in its new place.
fn between(from: Form, to: Form, committed: bool, moved: u32) {
    let home = tempfile::tempdir().unwrap();
    let queue = home.path();
    split::create_locks(queue).unwrap();
    let work = queue.join("converting");
    let old = work.join(if committed { "done" } else { "old" });
    let place = |form: Form, name: &str, there: &Path| {
        std::fs::create_dir_all(there.join(name)).unwrap();
        std::fs::write(there.join(name).join("7"), form.name()).unwrap();
    };
    std::fs::create_dir_all(&old).unwrap();
    let all_moved = |bit: usize| moved >> bit & 1 == 1;
    for (bit, name) in from.names().iter().enumerate() {
        let away = committed || all_moved(bit);
        place(from, name, if away { &old } else { queue });
    }
    for (bit, name) in to.names().iter().enumerate() {
        let here = committed && all_moved(bit);
        place(
            to,
            name,
            &if here {
                queue.to_owned()
            } else {
                work.join("new")
            },
        );
    }
    if from == Form::Split && !committed && all_moved(0) && all_moved(1) {
        // Closing it was cut short.
        std::fs::create_dir(old.join("todo.closed")).unwrap();
        std::fs::write(old.join("todo.closed/8"), from.name()).unwrap();
    }
    drop(SendMutex::lock(queue).unwrap());
    let counts = if committed { to } else { from };
    let mut expected: Vec<String> = counts.names().iter().map(|&name| name.to_owned()).collect();
    expected.push("lock".to_owned());
    expected.sort();
    assert_eq!(names(queue), expected, "{from:?} {committed} {moved:b}");
    for name in counts.names() {
        let text = std::fs::read_to_string(queue.join(name).join("7")).unwrap();
        assert_eq!(text, counts.name());
    }
}
