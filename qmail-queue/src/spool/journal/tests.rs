use std::path::Path;

use futures::executor::block_on;
use qmail_core::{Address, Envelope, Origin};

use super::crash::{SMALL, new_disk, spool_on};
use super::segment::{Opening, START, TEXTS};
use super::*;
use crate::SimDisk;

fn address(text: &str) -> Address {
    Address::new(text.to_owned()).unwrap()
}

fn entry() -> Entry {
    Entry {
        origin: Origin::Network,
        uid: 3,
        pid: 4,
        now: SystemTime::UNIX_EPOCH,
    }
}

pub(super) async fn accept(
    spool: &JournalSpool,
    text: &[u8],
    recipients: usize,
) -> Result<MessageId, SpoolError> {
    let mut draft = spool.begin(entry()).await?;
    for chunk in text.chunks(60_000) {
        draft.write(chunk.to_vec().into()).await?;
    }
    let recipients = (0..recipients).map(|number| address(&format!("r{number}@there")));
    let envelope = Envelope::new(address("me@here").into(), recipients.collect());
    Ok(draft.commit(&envelope).await?.id)
}

pub(super) fn routed(recipients: usize) -> Routed {
    let recipients = (0..recipients).map(|number| address(&format!("r{number}@there")));
    Routed {
        sender: address("me@here").into(),
        local: vec![address("l@here")],
        remote: recipients.collect(),
        birth_seconds: 7,
        failures: Vec::new(),
    }
}

pub(super) async fn text(spool: &JournalSpool, id: MessageId) -> Result<Vec<u8>, String> {
    let content = spool.content(id).await.map_err(|error| error.to_string())?;
    let mut body = content.open().await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.map_err(|error| error.to_string())? {
        text.extend_from_slice(&chunk);
    }
    let start = entry().received().len();
    Ok(text.split_off(start.min(text.len())))
}

pub(super) async fn scan(spool: &JournalSpool) -> (Vec<Found>, Vec<String>) {
    let (mut all, mut damages) = (Vec::new(), Vec::new());
    let mut found = |found| match found {
        Found::Damaged { path, reason } => damages.push(format!("{}: {reason}", path.display())),
        found => all.push(found),
    };
    spool.scan(&mut found).await.unwrap();
    (all, damages)
}

/// All of a file.
pub(super) fn read(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, false).unwrap();
    let mut octets = vec![0; file.stat().unwrap().octets as usize];
    assert_eq!(file.read_at(&mut octets, 0).unwrap(), octets.len());
    octets
}

pub(super) fn write(disk: &SimDisk, path: &Path, octets: &[u8]) {
    let file = match disk.open(path, true) {
        Ok(file) => file,
        Err(_) => disk.create(path, 0o600).unwrap(),
    };
    file.truncate(octets.len() as u64).unwrap();
    file.write_at(octets, 0).unwrap();
}

/// A disk with one segment of these octets.
fn disk_with(octets: &[u8]) -> SimDisk {
    let disk = new_disk();
    write(&disk, &segment::path(1), octets);
    disk
}

/// The first segment after each of these messages was accepted, and where it ends.
fn segments_after(texts: &[&[u8]]) -> Vec<(Vec<u8>, usize)> {
    let disk = new_disk();
    let spool = spool_on(&disk).unwrap();
    let mut end = 0;
    texts
        .iter()
        .map(|text| {
            let id = block_on(accept(&spool, text, 1)).unwrap();
            let stored = spool.inner.message(id).unwrap().record;
            assert_eq!(stored.place.segment, 1);
            end = end.max((stored.place.offset + stored.octets) as usize);
            (read(&disk, &segment::path(1)), end)
        })
        .collect()
}

#[test]
fn a_message_goes_through_its_states_and_starts() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("journal");
        let open = || {
            JournalSpool::create(&root).unwrap();
            loop {
                let workers = Workers::threads(2).unwrap();
                match JournalSpool::open_with(&root, workers, SMALL) {
                    // A worker has not let go of the last one yet.
                    Err(SpoolError::InUse { .. }) => std::thread::yield_now(),
                    opened => return opened.unwrap(),
                }
            }
        };
        let spool = open();
        let id = accept(&spool, b"text\n", 2).await.unwrap();
        assert_eq!(scan(&spool).await.0, [Found::Incoming(id)]);
        assert_eq!(spool.incoming_ids().await.unwrap(), [id]);
        let incoming = spool.incoming(id).await.unwrap();
        assert_eq!((incoming.uid, incoming.pid), (3, 4));
        assert_eq!(incoming.envelope.recipients[1], address("r1@there"));
        for early in [
            spool.sender(id).await.err(),
            spool.note_failure(id, b"x").await.err(),
            spool.close_channel(id, Channel::Local).await.err(),
        ] {
            assert!(matches!(early, Some(SpoolError::Read { .. })), "{early:?}");
        }
        let failures = b"<x@y>:\nno\n\n".to_vec();
        let routing = Routed {
            failures,
            ..routed(2)
        };
        spool.route(id, routing.clone()).await.unwrap();
        assert!(spool.route(id, routing).await.is_err());
        assert!(spool.incoming(id).await.is_err());
        drop(spool);

        let spool = open();
        assert_eq!(spool.sender(id).await.unwrap().as_bytes(), b"me@here");
        let page = |from, max| spool.recipients(id, Channel::Remote, from, max);
        let first = page(Position::START, 1).await.unwrap();
        assert_eq!((first.len(), &first[0].address), (1, &address("r0@there")));
        let second = page(first[0].next, 5).await.unwrap();
        assert_eq!(
            (second.len(), &second[0].address),
            (1, &address("r1@there"))
        );
        assert_eq!(page(second[0].next, 5).await.unwrap(), []);
        spool
            .mark_done(id, Channel::Remote, &[second[0].position])
            .await
            .unwrap();
        let beyond = spool
            .mark_done(id, Channel::Remote, &[second[0].next])
            .await;
        assert!(
            matches!(beyond, Err(SpoolError::Damaged { .. })),
            "{beyond:?}"
        );
        spool
            .note_failure(id, b"<r1@there>:\nno\n\n")
            .await
            .unwrap();
        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(99);
        spool.put_off(id, Channel::Remote, due).await.unwrap();
        for _ in 0..2 {
            spool.close_channel(id, Channel::Local).await.unwrap();
        }
        let closed = spool
            .recipients(id, Channel::Local, Position::START, 9)
            .await;
        assert_eq!(closed.unwrap(), []);
        spool
            .mark_done(id, Channel::Local, &[Position::START])
            .await
            .unwrap();
        drop(spool);

        let spool = open();
        let all = spool
            .recipients(id, Channel::Remote, Position::START, 9)
            .await
            .unwrap();
        assert_eq!(
            all.iter().map(|to| to.done).collect::<Vec<_>>(),
            [false, true]
        );
        let birth = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let (local, remote) = (None, Some(due));
        let found = Found::Routed {
            id,
            birth,
            local,
            remote,
        };
        assert_eq!(scan(&spool).await, (vec![found], vec![]));
        assert_eq!(spool.failures(id).await.unwrap().unwrap().octets(), 27);
        assert_eq!(text(&spool, id).await.unwrap(), b"text\n");
        for _ in 0..2 {
            spool.clear_failures(id).await.unwrap();
            assert!(spool.failures(id).await.unwrap().is_none());
        }
        for _ in 0..2 {
            spool.remove(Settled::new(id)).await.unwrap();
        }
        assert_eq!(spool.count(), 0);
        assert!(spool.content(id).await.is_err());
        drop(spool);
        let spool = open();
        assert_eq!(spool.count(), 0);
        assert!(
            accept(&spool, b"next\n", 1).await.unwrap() > id,
            "numbers are not used again"
        );
    });
}

#[test]
fn a_tail_that_is_torn_anywhere_is_cut_off() {
    let segments = segments_after(&[b"first\n", b"second, of some length\n"]);
    let [(before, start), (after, end)] = &segments[..] else {
        panic!("two segments");
    };
    for cut in *start..=*end {
        // What came to the disk: the first part, or the last; where the rest was, zeros or what an old file left.
        for (keep_first, filler) in [(true, 0), (true, 0xff), (false, 0), (false, 0xff)] {
            let mut octets = before.clone();
            octets[*start..*end].fill(filler);
            let kept = if keep_first { *start..cut } else { cut..*end };
            let whole = kept == (*start..*end);
            octets[kept.clone()].copy_from_slice(&after[kept]);
            let disk = disk_with(&octets);
            let spool = spool_on(&disk).unwrap();
            let (found, damages) = block_on(scan(&spool));
            // The zeros at the end of a record are not part of it.
            let whole = whole || (keep_first && cut + 8 > *end && found.len() == 2);
            assert_eq!(found.len(), 1 + usize::from(whole), "cut at {cut}");
            // What is missing is zeros. A few octets of them alone may as well have been changed.
            let torn = filler == 0 && (keep_first || cut >= start + 8);
            if torn || whole || (filler == 0 && damages.is_empty()) {
                assert_eq!(damages, [] as [&str; 0], "cut at {cut}");
            } else {
                assert_eq!(damages.len(), 1, "cut at {cut}");
                let kept = disk.list(Path::new(segment::DAMAGED)).unwrap();
                let kept = read(&disk, &Path::new(segment::DAMAGED).join(&kept[0]));
                assert!(octets[*start..].starts_with(&kept), "cut at {cut}");
            }
            for id in found.iter().map(|found| match found {
                Found::Incoming(id) => *id,
                other => panic!("{other:?}"),
            }) {
                assert!(block_on(text(&spool, id)).is_ok());
            }
            block_on(accept(&spool, b"third\n", 1)).unwrap();
            drop(spool);
            assert_eq!(spool_on(&disk).unwrap().count(), found.len() + 1);
        }
    }
}

#[test]
fn damage_is_told_skipped_and_kept_and_nothing_else_is_lost() {
    let segments = segments_after(&[b"first\n", b"second\n", b"third\n"]);
    let (first_end, second_end) = (segments[0].1, segments[1].1);
    let octets = &segments[2].0;
    for at in 0..second_end {
        let mut damaged = octets.clone();
        damaged[at] ^= 0x10;
        let disk = disk_with(&damaged);
        let spool = spool_on(&disk).unwrap();
        let (found, damages) = block_on(scan(&spool));
        let texts: Vec<_> = found
            .iter()
            .map(|found| match found {
                Found::Incoming(id) => block_on(text(&spool, *id)).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(texts.contains(&b"third\n".to_vec()), "octet {at}");
        if at >= first_end || at < START as usize {
            assert!(texts.contains(&b"first\n".to_vec()), "octet {at}");
        }
        if at < first_end {
            assert!(texts.contains(&b"second\n".to_vec()), "octet {at}");
        }
        // Only the zeros behind a record may change unnoticed.
        if damages.is_empty() {
            assert_eq!((octets[at], texts.len()), (0, 3), "octet {at}");
        } else if texts.len() < 3 {
            assert!(damages[0].contains("0000000001.log"), "{damages:?}");
            let kept = disk.list(Path::new(segment::DAMAGED)).unwrap();
            assert_eq!(kept.len(), 1, "octet {at}");
        }
        // The next start of a journal that goes on says it again, and has lost nothing more.
        block_on(accept(&spool, b"fourth\n", 1)).unwrap();
        drop(spool);
        let again = spool_on(&disk).unwrap();
        assert_eq!(again.count(), texts.len() + 1, "octet {at}");
    }
}

#[test]
fn a_text_that_is_damaged_is_never_given_out() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        let small = accept(&spool, b"small\n", 1).await.unwrap();
        let large = accept(&spool, &[b'x'; 100_000], 1).await.unwrap();
        assert_eq!(text(&spool, large).await.unwrap(), [b'x'; 100_000]);
        let stored = spool.inner.message(small).unwrap().record;
        let path = segment::path(stored.place.segment);
        disk.open(&path, true)
            .and_then(|file| file.write_at(b"#", u64::from(stored.place.offset) + 60))
            .unwrap();
        let path = text_path(large);
        disk.open(&path, true)
            .and_then(|file| file.write_at(b"#", 90_000))
            .unwrap();
        let told = text(&spool, small).await.unwrap_err();
        assert_eq!(
            told,
            "0000000001.log is damaged: the record at octet 64 is not whole"
        );
        let told = text(&spool, large).await.unwrap_err();
        assert_eq!(told, "the text of a message is damaged");
        disk.open(&path, true)
            .and_then(|file| file.truncate(99))
            .unwrap();
        let told = text(&spool, large).await.unwrap_err();
        assert!(
            told.starts_with("text/2 is damaged: it has 99 octets instead of"),
            "{told}"
        );
        disk.unlink(&path).unwrap();
        drop(spool);
        let spool = spool_on(&disk).unwrap();
        let (found, damages) = scan(&spool).await;
        assert_eq!((found.len(), damages.len()), (1, 2), "{damages:?}");
    });
}

#[test]
fn a_snapshot_that_is_damaged_loses_no_message() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        let stays = accept(&spool, b"stays\n", 1).await.unwrap();
        for _ in 0..40 {
            let id = accept(&spool, b"goes\n", 1).await.unwrap();
            spool.remove(Settled::new(id)).await.unwrap();
        }
        drop(spool);
        let mut names = disk.list(Path::new("")).unwrap();
        names.retain(|name| segment::number(name).is_some());
        names.sort();
        let opening = names
            .iter()
            .rev()
            .find_map(|name| Opening::parse(&read(&disk, name)).ok());
        let begin = opening.unwrap().replay_from;
        assert!(begin.offset > 0, "there was a snapshot");
        for name in &names {
            let number = segment::number(name).unwrap();
            let mut octets = read(&disk, name);
            let mut from = START as usize;
            while let Some((at, header)) = record::next_header(&octets, number, from) {
                if header.kind == Kind::Snapshot {
                    octets[at + 40] ^= 1;
                }
                from = at + header.octets();
            }
            write(&disk, name, &octets);
        }
        let spool = spool_on(&disk).unwrap();
        let (_, damages) = scan(&spool).await;
        assert!(
            damages
                .iter()
                .any(|told| told.contains("snapshot is not whole")),
            "{damages:?}"
        );
        assert_eq!(text(&spool, stays).await.unwrap(), b"stays\n");
    });
}

#[test]
fn another_version_is_refused() {
    let (mut octets, _) = segments_after(&[b"first\n"]).remove(0);
    octets[8] = 2;
    let sum = crc32c::crc32c(&octets[..60]);
    octets[60..64].copy_from_slice(&sum.to_le_bytes());
    let disk = disk_with(&octets);
    let error = spool_on(&disk).err().unwrap();
    assert_eq!(
        error.to_string(),
        "0000000001.log has the format of version 2, and this program knows version 1 only: use the program that made it"
    );
    assert_eq!(read(&disk, &segment::path(1)), octets, "left as it was");
}

#[test]
fn two_cannot_use_one_journal_and_all_can_look() {
    block_on(async {
        let root = tempfile::tempdir().unwrap();
        JournalSpool::create(root.path()).unwrap();
        let open = || JournalSpool::open_with(root.path(), Workers::inline(), SMALL);
        let spool = open().unwrap();
        let told = open().err().unwrap().to_string();
        assert_eq!(
            told,
            format!(
                "{} is in use by another process: stop that first",
                root.path().display()
            )
        );
        let id = accept(&spool, b"text\n", 1).await.unwrap();
        let disk: Arc<dyn Disk> = Arc::new(crate::RealDisk::open(root.path()).unwrap());
        let view = JournalSpool::view(&disk, &Workers::inline()).unwrap();
        assert_eq!(view.count(), 1);
        assert_eq!(text(&view, id).await.unwrap(), b"text\n");
        let refused = view.remove(Settled::new(id)).await;
        assert!(
            matches!(refused, Err(SpoolError::InUse { .. })),
            "{refused:?}"
        );
        let refused = accept(&view, b"text\n", 1).await;
        assert!(
            matches!(refused, Err(SpoolError::InUse { .. })),
            "{refused:?}"
        );
        drop(spool);
        open().unwrap();
    });
}

#[test]
fn foreign_files_are_told_and_left_alone() {
    let disk = new_disk();
    for name in ["core", "1.log", "0000000001.log.bak"] {
        write(&disk, Path::new(name), b"whatever");
    }
    let spool = spool_on(&disk).unwrap();
    block_on(accept(&spool, b"text\n", 1)).unwrap();
    drop(spool);
    let (found, damages) = block_on(scan(&spool_on(&disk).unwrap()));
    assert_eq!(found.len(), 1);
    assert_eq!(
        damages,
        [
            "0000000001.log.bak: it is none of ours",
            "1.log: it is none of ours",
            "core: it is none of ours",
        ]
    );
}

#[test]
fn a_full_disk_refuses_messages_and_still_takes_what_becomes_of_them() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(accept(&spool, b"text\n", 1).await.unwrap());
        }
        disk.set_full(true);
        let error = loop {
            match accept(&spool, b"text\n", 1).await {
                Ok(id) => ids.push(id),
                Err(error) => break error,
            }
        };
        let SpoolError::Write { source, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(spool.count(), ids.len());
        // What is left is enough to settle some, and that makes room for the next.
        let mut settled = 0;
        for _ in 0..3 {
            let id = ids.remove(0);
            settled += usize::from(spool.remove(Settled::new(id)).await.is_ok());
        }
        assert_eq!(settled, 3);
        disk.set_full(false);
        ids.push(accept(&spool, b"text\n", 1).await.unwrap());
        drop(spool);
        let spool = spool_on(&disk).unwrap();
        assert_eq!(spool.count(), ids.len());
        for id in ids {
            assert_eq!(text(&spool, id).await.unwrap(), b"text\n");
        }
    });
}

#[test]
fn a_text_without_end_ends_with_the_disk_and_leaves_nothing() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        let mut draft = spool.begin(entry()).await.unwrap();
        let mut written = 0;
        let error = loop {
            if written == 100 {
                disk.set_full(true);
            }
            match draft.write(vec![b'x'; 10_000].into()).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "cannot write text/1");
        let envelope = Envelope::new(address("me@here").into(), vec![address("a@b")]);
        assert!(draft.commit(&envelope).await.is_err());
        assert_eq!(disk.list(Path::new(TEXTS)).unwrap(), [] as [PathBuf; 0]);
        disk.set_full(false);
        accept(&spool, b"text\n", 1).await.unwrap();
        assert_eq!(spool.count(), 1);
    });
}

#[test]
fn a_hundred_thousand_recipients_are_one_message() {
    const RECIPIENTS: usize = 100_000;
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        accept(&spool, b"before\n", 1).await.unwrap();
        let id = accept(&spool, b"text\n", RECIPIENTS).await.unwrap();
        let incoming = spool.incoming(id).await.unwrap();
        assert_eq!(incoming.envelope.recipients.len(), RECIPIENTS);
        spool.route(id, routed(RECIPIENTS)).await.unwrap();
        let mut from = Position::START;
        loop {
            let page = spool
                .recipients(id, Channel::Remote, from, 1000)
                .await
                .unwrap();
            let Some(last) = page.last() else {
                break;
            };
            from = last.next;
            let marks: Vec<Position> = page.iter().step_by(2).map(|to| to.position).collect();
            spool.mark_done(id, Channel::Remote, &marks).await.unwrap();
        }
        drop(spool);
        let spool = spool_on(&disk).unwrap();
        let all = spool.recipients(id, Channel::Remote, Position::START, RECIPIENTS + 1);
        let all = all.await.unwrap();
        assert_eq!(all.len(), RECIPIENTS);
        for (number, recipient) in all.iter().enumerate() {
            assert_eq!(recipient.done, number % 2 == 0, "{number}");
            assert_eq!(recipient.address, address(&format!("r{number}@there")));
        }
    });
}

#[test]
fn the_disk_takes_less_than_twice_what_is_alive_and_three_segments() {
    block_on(async {
        const CONFIG: JournalConfig = JournalConfig {
            segment_octets: 8192,
            text_octets_max: 2000,
        };
        let disk = new_disk();
        let open =
            || JournalSpool::over(Arc::new(disk.clone()), Workers::inline(), CONFIG).unwrap();
        let mut spool = open();
        let mut ids = Vec::new();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        for round in 0..3_000 {
            // First more come than go, then the other way round.
            let goes = if round < 1_500 { 3 } else { 7 };
            if next(10) < goes && !ids.is_empty() {
                let id = ids.swap_remove(next(ids.len() as u64) as usize);
                spool.remove(Settled::new(id)).await.unwrap();
            } else {
                let text = vec![b'x'; next(900) as usize];
                ids.push(accept(&spool, &text, 1).await.unwrap());
            }
            if round % 500 == 499 {
                drop(spool);
                spool = open();
            }
            let segments: u64 = disk
                .list(Path::new(""))
                .unwrap()
                .iter()
                .filter(|name| segment::number(name).is_some())
                .map(|name| disk.stat(name).unwrap().octets)
                .sum();
            let live = spool.inner.index().live();
            assert!(
                segments < 2 * live + 3 * CONFIG.segment_octets,
                "round {round}: {segments} octets for {live}"
            );
        }
        assert_eq!(spool.count(), ids.len());
        for id in ids {
            text(&spool, id).await.unwrap();
        }
    });
}

#[test]
fn many_commit_at_once() {
    let root = tempfile::tempdir().unwrap();
    JournalSpool::create(root.path()).unwrap();
    let workers = Workers::threads(3).unwrap();
    let spool = JournalSpool::open(root.path(), workers).unwrap();
    let ids = block_on(futures::future::join_all((0..200).map(|number| {
        let spool = &spool;
        async move {
            let text = format!("message {number}\n");
            let id = accept(spool, text.as_bytes(), 1).await.unwrap();
            spool.route(id, routed(1)).await.unwrap();
            spool.close_channel(id, Channel::Local).await.unwrap();
            (id, text)
        }
    })));
    assert_eq!(spool.count(), 200);
    for (id, expected) in &ids {
        assert_eq!(block_on(text(&spool, *id)).unwrap(), expected.as_bytes());
    }
    let removals = ids.iter().map(|(id, _)| spool.remove(Settled::new(*id)));
    for removed in block_on(futures::future::join_all(removals)) {
        removed.unwrap();
    }
    assert_eq!(spool.count(), 0);
}

#[test]
fn a_journal_knows_whether_it_was_closed() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        assert!(spool.was_closed(), "there is nothing to be missed");
        let id = accept(&spool, b"text\n", 1).await.unwrap();
        spool.close().await.unwrap();
        // It may go on all the same.
        spool.route(id, routed(1)).await.unwrap();
        let cut_short = disk.after_crash(&mut crate::disk::Choices::every());
        assert!(!spool_on(&cut_short).unwrap().was_closed());
        let clone = spool.clone();
        drop(spool);
        let spool = spool_on(&disk).unwrap();
        assert!(!spool.was_closed(), "there is another clone");
        drop((spool, clone));
        // Nothing is written by who only reads.
        for _ in 0..2 {
            let before = disk.operations();
            let spool = spool_on(&disk).unwrap();
            assert!(spool.was_closed());
            assert_eq!(text(&spool, id).await.unwrap(), b"text\n");
            drop(spool);
            assert_eq!(disk.operations(), before);
        }
        let names = disk.list(Path::new("")).unwrap();
        let segments = names.iter().filter(|name| segment::number(name).is_some());
        assert_eq!(segments.count(), 2, "no room is left for a next one");
    });
}

#[test]
fn sizes_that_the_format_does_not_allow_are_refused() {
    let open = |segment_octets, text_octets_max| {
        let config = JournalConfig {
            segment_octets,
            text_octets_max,
        };
        let spool = JournalSpool::over(Arc::new(new_disk()), Workers::inline(), config);
        spool.err().map(|error| error.to_string())
    };
    assert_eq!(open(1 << 30, 1 << 20), None);
    assert_eq!(
        open(5 << 30, 400).unwrap(),
        "the size of a segment is 5368709120 octets, and 1073741824 is the most"
    );
    assert_eq!(
        open(1024, 2 << 20).unwrap(),
        "the longest text in the log is 2097152 octets, and 1048576 is the most"
    );
}

#[test]
fn a_note_that_no_record_holds_is_refused() {
    block_on(async {
        let disk = new_disk();
        let spool = spool_on(&disk).unwrap();
        let id = accept(&spool, b"text\n", 1).await.unwrap();
        spool.route(id, routed(1)).await.unwrap();
        let note = vec![b'x'; record::PAYLOAD_OCTETS_MAX - 7];
        let refused = spool.note_failure(id, &note).await.unwrap_err();
        let SpoolError::Write { source, .. } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
        assert!(spool.failures(id).await.unwrap().is_none());
    });
}

/// A segment is full at each octet of a text in turn: the record goes into the next one, whole.
#[test]
fn a_segment_may_be_full_in_the_middle_of_a_text() {
    block_on(async {
        let mut several = 0;
        for octets in 0..=SMALL.text_octets_max {
            let disk = new_disk();
            let spool = spool_on(&disk).unwrap();
            let mut ids = Vec::new();
            for number in 0..5_u8 {
                let text = vec![b'a' + number; octets];
                ids.push((accept(&spool, &text, 1).await.unwrap(), text));
            }
            drop(spool);
            let spool = spool_on(&disk).unwrap();
            several += usize::from(spool.inner.index().segments().len() > 1);
            assert_eq!(scan(&spool).await.1, [] as [&str; 0]);
            for (id, expected) in ids {
                assert_eq!(text(&spool, id).await.unwrap(), expected, "{octets}");
            }
        }
        assert!(several > 100, "{several}");
    });
}
