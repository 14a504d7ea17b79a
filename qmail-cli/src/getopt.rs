//! The option syntax of the classic programs: clustered letters, `-fX` or `-f X`, `--` or the first operand ends them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// Options of a command line, one after the other.
///
/// The letters are given as a string; `:` behind one says that it takes an argument, `?` that it takes an argument only if
/// one is attached.
pub(crate) struct Getopt<'a> {
    letters: &'static [u8],
    arguments: &'a [OsString],
    /// What is left of a cluster.
    cluster: &'a [u8],
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opt<'a> {
    pub(crate) letter: u8,
    /// Empty for a letter without argument.
    pub(crate) argument: &'a [u8],
}

/// An unknown letter, or one without its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadOption {
    Unknown(u8),
    NoArgument(u8),
}

impl std::fmt::Display for BadOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(letter) => write!(f, "unknown option -{}", letter.escape_ascii()),
            Self::NoArgument(letter) => {
                write!(f, "option -{} needs an argument", letter.escape_ascii())
            }
        }
    }
}

impl<'a> Getopt<'a> {
    pub(crate) fn new(arguments: &'a [OsString], letters: &'static str) -> Self {
        Self {
            letters: letters.as_bytes(),
            arguments,
            cluster: b"",
        }
    }

    /// What follows the options; to be asked when there are none left.
    pub(crate) fn operands(&self) -> &'a [OsString] {
        self.arguments
    }

    fn next_word(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.arguments.split_first()?;
        self.arguments = rest;
        Some(first.as_bytes())
    }
}

impl<'a> Iterator for Getopt<'a> {
    type Item = Result<Opt<'a>, BadOption>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cluster.is_empty() {
            let word = self.arguments.first()?.as_bytes();
            if word == b"--" {
                self.next_word();
                return None;
            }
            self.cluster = word
                .strip_prefix(b"-")
                .filter(|cluster| !cluster.is_empty())?;
            self.next_word();
        }
        let (&letter, attached) = self.cluster.split_first()?;
        self.cluster = attached;
        let known = self.letters.iter().position(|&known| known == letter);
        let Some(known) = known.filter(|_| !matches!(letter, b':' | b'?')) else {
            return Some(Err(BadOption::Unknown(letter)));
        };
        let argument = match self.letters.get(known + 1) {
            Some(b':') if attached.is_empty() => match self.next_word() {
                Some(word) => word,
                None => return Some(Err(BadOption::NoArgument(letter))),
            },
            Some(b':' | b'?') => attached,
            _ => {
                return Some(Ok(Opt {
                    letter,
                    argument: b"",
                }));
            }
        };
        self.cluster = b"";
        Some(Ok(Opt { letter, argument }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> String {
        let arguments: Vec<OsString> = line
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from)
            .collect();
        let mut getopt = Getopt::new(&arguments, "abf:E?");
        let mut shown = String::new();
        for option in getopt.by_ref() {
            match option {
                Ok(Opt { letter, argument }) => {
                    shown += &format!("{}={} ", letter as char, argument.escape_ascii());
                }
                Err(error) => return shown + &error.to_string(),
            }
        }
        shown + &format!("{:?}", getopt.operands())
    }

    #[test]
    fn classic_command_lines() {
        for (line, want) in [
            ("", "[]"),
            ("-a -b c -a", "a= b= [\"c\", \"-a\"]"),
            ("-abfx y", "a= b= f=x [\"y\"]"),
            ("-f x -", "f=x [\"-\"]"),
            ("-a -- -b", "a= [\"-b\"]"),
            ("-f -- x", "f=-- [\"x\"]"),
            ("-E x", "E= [\"x\"]"),
            ("-aE2 x", "a= E=2 [\"x\"]"),
            ("-f", "option -f needs an argument"),
            ("-az", "a= unknown option -z"),
            ("-:", "unknown option -:"),
        ] {
            assert_eq!(parse(line), want, "{line}");
        }
    }
}
