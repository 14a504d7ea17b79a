//! Reading of a control directory, with errors that tell file, value and remedy.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qmail_core::cdb::Cdb;
use qmail_core::control::{self, Problem, Warning};

/// Largest control file in octets that is read: a million domains have room.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Longest name of a host in octets (RFC 1035 section 2.3.4).
const HOST_OCTETS_MAX: usize = 255;

/// A control directory being read. Each reader gives `None` for a file that is missing.
pub(crate) struct Directory {
    path: PathBuf,
    /// A number is its leading digits, or nothing; what a line does not say right is a warning.
    lenient: bool,
    /// What is strange and can be lived with; one line each.
    pub(crate) warnings: Vec<String>,
}

/// Why a home has no configuration. `Display` is one line: file, value, remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("cannot read {}: {source}; make it a readable file, or remove it for the default", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} is larger than {FILE_OCTETS_MAX} octets; is it what it should be?",
        path.display()
    )]
    TooLarge { path: PathBuf },
    #[error("{}, {warning}, or remove the file for the default", path.display())]
    Value { path: PathBuf, warning: Warning },
    #[error("{}, `{value}`: {remedy}", path.display())]
    Bad {
        path: PathBuf,
        value: String,
        remedy: &'static str,
    },
    #[error("{} is missing: {remedy}", path.display())]
    Missing { path: PathBuf, remedy: &'static str },
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lenient: false,
            warnings: Vec::new(),
        }
    }

    /// One whose numbers are read as the classic programs read them.
    pub(crate) fn lenient(path: &Path) -> Self {
        Self {
            lenient: true,
            ..Self::new(path)
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The whole file, of lines of text.
    ///
    /// A CR or another control character in a line that counts is an error: a name with it would match nothing, though it
    /// looks as it should (a file that was written elsewhere, with lines that end in CR LF), or would be said to others.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Vec<u8>>, ControlError> {
        let Some(file) = self.octets(name)? else {
            return Ok(None);
        };
        let control = |&octet: &u8| (octet < b' ' && octet != b'\t') || octet == 0x7f;
        let garbled = control::list(&file).find(|line| line.octets.iter().any(control));
        match garbled {
            None => Ok(Some(file)),
            Some(line) => Err(ControlError::Value {
                path: self.path(name),
                warning: Warning::new(line.number, line.octets, Problem::ControlCharacter),
            }),
        }
    }

    /// The whole file, whatever it holds.
    pub(super) fn octets(&self, name: &str) -> Result<Option<Vec<u8>>, ControlError> {
        let path = self.path(name);
        let mut octets = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets));
        match read {
            Ok(_) if octets.len() as u64 > FILE_OCTETS_MAX => Err(ControlError::TooLarge { path }),
            Ok(_) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ControlError::Read { path, source }),
        }
    }

    /// The first line.
    pub(crate) fn line(&self, name: &str) -> Result<Option<Bytes>, ControlError> {
        Ok(self
            .file(name)?
            .map(|file| Bytes::copy_from_slice(control::line(&file))))
    }

    /// The first line, which names a host. It is said to others, and put behind an `@`: what cannot be one is an error, save
    /// where the classic programs take it.
    pub(super) fn host(&self, name: &str) -> Result<Option<Bytes>, ControlError> {
        let Some(host) = self.line(name)? else {
            return Ok(None);
        };
        let possible = (1..=HOST_OCTETS_MAX).contains(&host.len())
            && !host.iter().any(|octet| b" \t@<>".contains(octet));
        if possible || self.lenient {
            return Ok(Some(host));
        }
        let shown = &host[..host.len().min(Warning::TEXT_OCTETS_MAX)];
        Err(ControlError::Bad {
            path: self.path(name),
            value: qmail_core::Escaped(shown).to_string(),
            remedy: "write the name of one host, such as mail.example.org",
        })
    }

    /// A number.
    ///
    /// A number with text right behind it (`10M`) means something else than it says and is an error; text after a space is
    /// passed over, as it always was, with a warning.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<u64>, ControlError> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let mut warnings = Vec::new();
        let value = control::integer(&file, &mut warnings);
        if self.lenient {
            return Ok(value);
        }
        let digits = file
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
        // A unit or the rest of a number, not the start of a remark.
        let glued = file
            .get(digits)
            .is_some_and(|octet| octet.is_ascii_alphanumeric() || b".,'_+-".contains(octet));
        match (value, warnings.pop()) {
            (Some(value), None) => Ok(Some(value)),
            (Some(value), Some(warning)) if !glued => {
                self.warn(name, &warning);
                Ok(Some(value))
            }
            (_, warning) => Err(ControlError::Value {
                path: self.path(name),
                warning: warning
                    .unwrap_or_else(|| Warning::new(1, control::line(&file), Problem::NoNumber)),
            }),
        }
    }

    /// A file that `parse` makes something of; what it warns of is an error if that changes the meaning of the line.
    pub(crate) fn parsed<T: Default>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&[u8], &mut Vec<Warning>) -> T,
    ) -> Result<T, ControlError> {
        let Some(file) = self.file(name)? else {
            return Ok(T::default());
        };
        let mut warnings = Vec::new();
        let value = parse(&file, &mut warnings);
        for warning in warnings {
            if warning.problem != Problem::NoColon && !self.lenient {
                return Err(ControlError::Value {
                    path: self.path(name),
                    warning,
                });
            }
            self.warn(name, &warning);
        }
        Ok(value)
    }

    /// A constant database.
    pub(crate) fn cdb(&self, name: &str) -> Result<Option<Cdb<Bytes>>, ControlError> {
        let Some(file) = self.octets(name)? else {
            return Ok(None);
        };
        Cdb::new(Bytes::from(file))
            .map(Some)
            .map_err(|error| ControlError::Bad {
                path: self.path(name),
                value: error.to_string(),
                remedy: "make it again with qmail-newmrh",
            })
    }

    pub(crate) fn warn(&mut self, name: &str, warning: &dyn std::fmt::Display) {
        self.warnings.push(format!("control/{name}, {warning}"));
    }
}
