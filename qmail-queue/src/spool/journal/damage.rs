//! Journals in which something was changed: octet by octet, after a clean stop and without one.

use std::path::Path;

use futures::executor::block_on;

use super::crash::{SMALL, new_disk, spool_on};
use super::segment::{START, TEXTS};
use super::tests::{accept, read, routed, scan, text, write};
use super::*;
use crate::SimDisk;

const TEXTS_OF_A_JOURNAL: [&[u8]; 7] = [
    b"the first one\n",
    b"the second one, of some length\n",
    b"one that is routed\n",
    b"another that is routed, and put off\n",
    b"one more\n",
    b"another one, so that there are some sectors\n",
    b"the last one of all\n",
];

/// The files of a journal with these messages, before it was closed, or after that.
fn files_of_a_journal(config: JournalConfig, closed: bool) -> Vec<(PathBuf, Vec<u8>)> {
    block_on(async {
        let disk = new_disk();
        let spool = JournalSpool::over(Arc::new(disk.clone()), Workers::inline(), config).unwrap();
        for (number, text) in TEXTS_OF_A_JOURNAL.iter().enumerate() {
            let id = accept(&spool, text, 1).await.unwrap();
            if number == 2 || number == 3 {
                spool.route(id, routed(2)).await.unwrap();
            }
            if number == 3 {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000);
                spool.put_off(id, Channel::Remote, due).await.unwrap();
            }
        }
        if closed {
            spool.close().await.unwrap();
        }
        let names = disk.list(Path::new("")).unwrap();
        let segments = names
            .into_iter()
            .filter(|name| segment::number(name).is_some());
        let mut files: Vec<_> = segments
            .map(|name| (name.clone(), read(&disk, &name)))
            .collect();
        files.sort();
        files
    })
}

fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> SimDisk {
    let disk = new_disk();
    for (name, octets) in files {
        write(&disk, name, octets);
    }
    disk
}

/// Opens a journal of these messages in which something was changed: each is there, or it is told that something is not, and a
/// file in `damaged` has it. Gives how many are not there.
fn check_changed(disk: &SimDisk, what: &str) -> usize {
    block_on(async {
        let spool = spool_on(disk).unwrap();
        let (found, damages) = scan(&spool).await;
        let mut texts = Vec::new();
        for found in found {
            let (Found::Incoming(id) | Found::Routed { id, .. }) = found else {
                panic!("{what}: {found:?}");
            };
            // What is damaged in an old segment is told when it is read.
            texts.push(text(&spool, id).await);
        }
        let told_later = texts.iter().filter(|text| text.is_err()).count();
        let missing: Vec<&[u8]> = TEXTS_OF_A_JOURNAL
            .into_iter()
            .filter(|&text| !texts.contains(&Ok(text.to_vec())))
            .collect();
        if missing.len() > told_later {
            assert!(!damages.is_empty(), "{what}: {} are missing", missing.len());
            let directory = Path::new(segment::DAMAGED);
            let mut kept = Vec::new();
            for name in disk.list(directory).unwrap() {
                kept.extend(read(disk, &directory.join(name)));
            }
            for text in &missing {
                let is_text =
                    |seen: &[u8]| seen.iter().zip(*text).filter(|(a, b)| a != b).count() <= 1;
                let is_kept = kept.windows(text.len()).any(is_text);
                assert!(is_kept || told_later > 0, "{what}: {damages:?}");
            }
            assert!(
                damages.iter().any(|told| told.contains("damaged/0")),
                "{damages:?}"
            );
        }
        // It goes on, and the next start has no less.
        accept(&spool, b"a new one\n", 1).await.unwrap();
        let count = spool.count();
        drop(spool);
        let again = spool_on(disk).unwrap();
        assert_eq!(again.count(), count, "{what}");
        missing.len()
    })
}

const ONE_SEGMENT: JournalConfig = JournalConfig {
    segment_octets: 16 << 10,
    text_octets_max: 400,
};

/// Changes each octet of the newest segment, or of all, and looks.
fn change_every_octet(config: JournalConfig, closed: bool, all: bool) -> usize {
    let files = files_of_a_journal(config, closed);
    let mut missing = 0;
    let newest = if all { 0 } else { files.len() - 1 };
    for file in newest..files.len() {
        for at in 0..tail::written(&files[file].1) {
            for mask in [0x01, 0x80] {
                let mut changed = files.clone();
                changed[file].1[at] ^= mask;
                let what = format!("{}: octet {at}, {mask:x}", changed[file].0.display());
                missing += check_changed(&disk_of(&changed), &what);
            }
        }
    }
    missing
}

#[test]
fn after_a_clean_stop_every_changed_octet_costs_nothing_or_is_told() {
    assert!(change_every_octet(ONE_SEGMENT, true, true) > 0);
    assert!(change_every_octet(SMALL, true, true) > 0);
}

#[test]
fn without_a_clean_stop_a_changed_octet_is_not_taken_for_a_tear() {
    assert!(change_every_octet(ONE_SEGMENT, false, true) > 0);
    assert!(change_every_octet(SMALL, false, true) > 0);
}

/// After a clean stop also such damage is known that looks like a tear: sectors that read as zeros.
#[test]
fn after_a_clean_stop_nothing_is_taken_for_a_tear() {
    let files = files_of_a_journal(ONE_SEGMENT, true);
    let written = tail::written(&files[0].1);
    assert!(written > 1024);
    for sector in 0..(written - 64) / 512 {
        let mut changed = files.clone();
        changed[0].1[sector * 512..][..512].fill(0);
        let disk = disk_of(&changed);
        let spool = spool_on(&disk).unwrap();
        assert!(spool.was_closed());
        let (found, damages) = block_on(scan(&spool));
        assert!(!damages.is_empty(), "sector {sector}: {found:?}");
        assert!(spool.count() > 0);
    }
}

/// The records of a segment as if one write had brought them all.
fn as_one_write(octets: &mut [u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = START as usize;
    while let Some((next, header)) = record::next_header(octets, 1, at) {
        octets[next + 12..next + 16].fill(0);
        let sum = crc32c::crc32c(&octets[next + 4..next + HEADER_OCTETS]);
        octets[next..next + 4].copy_from_slice(&sum.to_le_bytes());
        places.push(next);
        at = next + header.octets();
    }
    places
}

#[test]
fn the_only_write_of_a_journal_may_be_damaged_anywhere() {
    let mut files = files_of_a_journal(ONE_SEGMENT, false);
    as_one_write(&mut files[0].1);
    for at in 0..tail::written(&files[0].1) {
        let mut changed = files.clone();
        changed[0].1[at] ^= 0x80;
        let disk = disk_of(&changed);
        let missing = check_changed(&disk, &format!("octet {at}"));
        if at < START as usize {
            assert_eq!(missing, TEXTS_OF_A_JOURNAL.len());
            let moved = Path::new(segment::DAMAGED).join("0000000001-0");
            assert_eq!(read(&disk, &moved), changed[0].1, "octet {at}");
        }
    }
}

#[test]
fn records_behind_a_tear_do_not_count_and_are_kept() {
    let mut files = files_of_a_journal(ONE_SEGMENT, false);
    let places = as_one_write(&mut files[0].1);
    let octets = &files[0].1;
    let (first_end, end) = (places[1], tail::written(octets));
    assert!(places.len() > 6 && end > 1024);
    let mut torn = files.clone();
    // The second sector never came.
    torn[0].1[512..1024].fill(0);
    let disk = disk_of(&torn);
    let spool = spool_on(&disk).unwrap();
    let (found, damages) = block_on(scan(&spool));
    assert!(first_end <= 512 && !found.is_empty() && found.len() < TEXTS_OF_A_JOURNAL.len());
    assert_eq!(damages, [] as [&str; 0], "a power cut does that");
    let kept = disk.list(Path::new(segment::DAMAGED)).unwrap();
    assert_eq!(kept.len(), 1);
    let kept = read(&disk, &Path::new(segment::DAMAGED).join(&kept[0]));
    assert!(torn[0].1[..end].ends_with(&kept), "all that was cut off");
    // The first sector never came, with the opening; the others did.
    let mut torn = files;
    torn[0].1[..512].fill(0);
    let disk = disk_of(&torn);
    let spool = spool_on(&disk).unwrap();
    assert_eq!(block_on(scan(&spool)), (vec![], vec![]));
    let moved = Path::new(segment::DAMAGED).join("0000000001-0");
    assert_eq!(read(&disk, &moved), torn[0].1);
    block_on(accept(&spool, b"text\n", 1)).unwrap();
}

#[test]
fn what_cannot_be_kept_stays_where_it_is() {
    let files = files_of_a_journal(ONE_SEGMENT, false);
    let end = tail::written(&files[0].1);
    let mut changed = files;
    changed[0].1[end - 20] ^= 0x80;
    let disk = disk_of(&changed);
    disk.set_full(true);
    let spool = spool_on(&disk).unwrap();
    let (_, damages) = block_on(scan(&spool));
    assert!(damages[0].contains("cannot be kept"), "{damages:?}");
    disk.set_full(false);
    block_on(accept(&spool, b"text\n", 1)).unwrap();
    drop(spool);
    assert_eq!(read(&disk, &segment::path(1)), changed[0].1);
}

/// The record of a message is damaged, its text is not: it is no draft that somebody has left.
#[test]
fn the_text_of_a_message_that_is_damaged_is_kept() {
    block_on(async {
        for left_out in [false, true] {
            let disk = new_disk();
            let spool = spool_on(&disk).unwrap();
            let id = accept(&spool, &[b'x'; 1_000], 1).await.unwrap();
            let stored = spool.inner.message(id).unwrap().record;
            drop(spool);
            let text = read(&disk, &text_path(id));
            if left_out {
                let file = disk.open(&segment::path(1), true).unwrap();
                file.write_at(b"#", u64::from(stored.place.offset) + 60)
                    .unwrap();
            }
            write(&disk, &text_path(MessageId(99)), b"a draft");
            let spool = spool_on(&disk).unwrap();
            let aside = Path::new(segment::DAMAGED);
            let kept = disk.list(aside).unwrap();
            assert_eq!(
                (spool.count(), kept.len()),
                match left_out {
                    false => (1, 0),
                    // The record, the text, and what cannot be told from one.
                    true => (0, 3),
                }
            );
            if left_out {
                let kept = read(&disk, &aside.join(format!("text-{id}")));
                assert_eq!(kept, text);
            }
            let texts = disk.list(Path::new(TEXTS)).unwrap();
            assert_eq!(texts.len(), usize::from(!left_out));
        }
    });
}
