//! The log party: lines on standard input go to `log/current`, each behind a TAI64N label, as multilog writes them. A file that has grown
//! enough is put aside under the label of that moment; the oldest of those go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::Party;
use super::party::lock_down;
use crate::exit;
use crate::home::Home;

/// A file is put aside when it has so many octets.
const FILE_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// So many files are kept beside the current one.
const FILES_KEPT: usize = 10;

/// A longer line is cut.
const LINE_OCTETS_MAX: u64 = 16 * 1024;

/// Offset of TAI64 labels: 2^62 and the ten seconds that TAI was ahead of UTC in 1970.
const TAI64_OFFSET: u64 = (1 << 62) + 10;

pub(super) fn run(home: &Home) -> ExitCode {
    let directory = home.path().join("log");
    let prepared = lock_down(Party::Log, home);
    if let Err(error) = prepared {
        return exit::fatal("log", &error, exit::TEMPORARY);
    }
    match Log::open(&directory).and_then(|log| write_all(log, io::stdin().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            "log",
            &format_args!("cannot write to {}: {error}", directory.display()),
            exit::TEMPORARY,
        ),
    }
}

fn write_all(mut log: Log, input: impl io::Read) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = io::Read::take(&mut input, LINE_OCTETS_MAX);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return log.file.flush();
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        log.line(&line, SystemTime::now())?;
        // What there is goes out when nothing more is waiting.
        if input.buffer().is_empty() {
            log.file.flush()?;
        }
    }
}

struct Log {
    directory: PathBuf,
    file: BufWriter<File>,
    octets: u64,
}

impl Log {
    fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(directory.join("current"))?;
        Ok(Self {
            directory: directory.to_owned(),
            octets: file.metadata()?.len(),
            file: BufWriter::new(file),
        })
    }

    fn line(&mut self, line: &[u8], now: SystemTime) -> io::Result<()> {
        if self.octets >= FILE_OCTETS_MAX {
            self.rotate(now)?;
        }
        let label = label(now);
        self.file.write_all(label.as_bytes())?;
        self.file.write_all(b" ")?;
        self.file.write_all(line)?;
        self.octets += (label.len() + 1 + line.len()) as u64;
        Ok(())
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        self.file.flush()?;
        let aside = self.directory.join(format!("{}.s", label(now)));
        fs::rename(self.directory.join("current"), aside)?;
        *self = Self::open(&self.directory)?;
        let mut old: Vec<_> = fs::read_dir(&self.directory)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "s"))
            .collect();
        old.sort();
        for path in old.iter().rev().skip(FILES_KEPT) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// `@` and 24 hexadecimal digits.
fn label(now: SystemTime) -> String {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "@{:016x}{:08x}",
        TAI64_OFFSET + since.as_secs(),
        since.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_get_labels_and_long_ones_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(LINE_OCTETS_MAX as usize + 5);
        let input = format!("one\n{long}\nlast");
        write_all(Log::open(directory.path()).unwrap(), input.as_bytes()).unwrap();
        let text = fs::read_to_string(directory.path().join("current")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[0].starts_with("@40000000") && lines[0].ends_with(" one"),
            "{}",
            lines[0]
        );
        assert!(lines[2].ends_with(" xxxxx") && lines[3].ends_with(" last"));
    }

    #[test]
    fn a_label_is_that_of_multilog() {
        let moment = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 7);
        assert_eq!(label(moment), "@400000003b9aca0a00000007");
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        for number in 0..FILES_KEPT as u64 + 3 {
            log.octets = FILE_OCTETS_MAX;
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
            log.line(format!("{number}\n").as_bytes(), now).unwrap();
        }
        log.file.flush().unwrap();
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), FILES_KEPT + 1);
        let current = fs::read_to_string(directory.path().join("current")).unwrap();
        assert!(current.ends_with(" 12\n"), "{current}");
    }
}
