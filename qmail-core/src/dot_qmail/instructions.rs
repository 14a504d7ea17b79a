//! The lines of an instruction file.

/// One thing to do for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction<'a> {
    /// Append to a file in mbox format; the name starts with `.` or `/`.
    Mbox(&'a [u8]),
    /// Deliver into a Maildir; the name starts with `.` or `/` and ends with `/`.
    Maildir(&'a [u8]),
    /// Run a command of the shell with the message as its input.
    Program(&'a [u8]),
    /// Send it on to an address, which is never empty.
    Forward(&'a [u8]),
}

/// Why a line cannot be followed. All of them defer the message: the user can still mend the file.
///
/// `Display` gives the classic text with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// The first line is empty or has blanks only.
    #[error("Uh-oh: first line of .qmail file is blank. (#4.2.1)")]
    FirstLineBlank,
    /// A file or Maildir in a file that may only forward.
    #[error("Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)")]
    FileForbidden,
    /// A program in a file that may only forward.
    #[error("Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)")]
    ProgramForbidden,
    /// `&` with nothing behind it.
    #[error("Uh-oh: .qmail has a forward without an address. (#4.2.1)")]
    EmptyForward,
    /// A CR at the end of a line: the file comes from another system, and every name in it would be wrong.
    #[error("Uh-oh: .qmail has a line that ends in CR; remove the CRs. (#4.2.1)")]
    CarriageReturn,
    /// A NUL, which no file name, command or address can have.
    #[error("Uh-oh: .qmail has a NUL in a line. (#4.2.1)")]
    Nul,
}

/// Reads the lines of an instruction file, in order. The first error ends it: what came before has been done by then.
///
/// `forward_only` is the owner's execute bit of the file; a line `+list` has the same effect from there on.
///
/// ```
/// use qmail_core::dot_qmail::{Instruction, instructions};
/// let file = b"# my mail\n./Maildir/\n|vacation joe  \n&ann@example.org\n";
/// let lines: Result<Vec<_>, _> = instructions(file, false).collect();
/// assert_eq!(lines?, [
///     Instruction::Maildir(b"./Maildir/"),
///     Instruction::Program(b"vacation joe"),
///     Instruction::Forward(b"ann@example.org"),
/// ]);
/// # Ok::<(), qmail_core::dot_qmail::InstructionError>(())
/// ```
pub fn instructions(file: &[u8], forward_only: bool) -> Instructions<'_> {
    Instructions {
        rest: file,
        forward_only,
        first: true,
    }
}

/// What [`instructions`] gives.
#[derive(Clone, Debug)]
pub struct Instructions<'a> {
    rest: &'a [u8],
    forward_only: bool,
    first: bool,
}

impl<'a> Instructions<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<Option<Instruction<'a>>, InstructionError> {
        let first = std::mem::replace(&mut self.first, false);
        let Some((&kind, rest)) = line.split_first() else {
            return if first {
                Err(InstructionError::FirstLineBlank)
            } else {
                Ok(None)
            };
        };
        if kind == b'#' {
            return Ok(None);
        }
        if line.ends_with(b"\r") {
            return Err(InstructionError::CarriageReturn);
        }
        if memchr::memchr(0, line).is_some() {
            return Err(InstructionError::Nul);
        }
        match kind {
            b'.' | b'/' if self.forward_only => Err(InstructionError::FileForbidden),
            b'.' | b'/' if line.ends_with(b"/") => Ok(Some(Instruction::Maildir(line))),
            b'.' | b'/' => Ok(Some(Instruction::Mbox(line))),
            b'|' if self.forward_only => Err(InstructionError::ProgramForbidden),
            b'|' => Ok(Some(Instruction::Program(rest))),
            b'+' => {
                self.forward_only |= rest == b"list";
                Ok(None)
            }
            b'&' if rest.is_empty() => Err(InstructionError::EmptyForward),
            b'&' => Ok(Some(Instruction::Forward(rest))),
            _ => Ok(Some(Instruction::Forward(line))),
        }
    }
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Result<Instruction<'a>, InstructionError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest);
            let line = &self.rest[..end.unwrap_or(self.rest.len())];
            self.rest = end.map_or(&[][..], |end| &self.rest[end + 1..]);
            match self.line(without_trailing_blanks(line)) {
                Ok(None) => {}
                Ok(Some(instruction)) => return Some(Ok(instruction)),
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

fn without_trailing_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().rev();
    let blanks = blanks.take_while(|&&octet| matches!(octet, b' ' | b'\t'));
    &line[..line.len() - blanks.count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &[u8], forward_only: bool) -> String {
        let lines = instructions(file, forward_only).map(|line| match line {
            Ok(Instruction::Mbox(name)) => format!("mbox {}", name.escape_ascii()),
            Ok(Instruction::Maildir(name)) => format!("maildir {}", name.escape_ascii()),
            Ok(Instruction::Program(command)) => format!("program {}", command.escape_ascii()),
            Ok(Instruction::Forward(address)) => format!("forward {}", address.escape_ascii()),
            Err(error) => format!("{error:?}"),
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn lines_mean_what_the_manual_says() {
        for (file, want) in [
            (&b""[..], ""),
            (b"#", ""),
            (b"\n./a", "FirstLineBlank"),
            (b" \t\n./a", "FirstLineBlank"),
            (b"#\n\n  \n./a", "mbox ./a"),
            (
                b"./a \t\n/b/c/\n./d/ ",
                "mbox ./a; maildir /b/c/; maildir ./d/",
            ),
            (b"|  a  b \n|", "program   a  b; program "),
            (
                b" a@b\n&c d@e\n&#f",
                "forward  a@b; forward c d@e; forward #f",
            ),
            (b"a@b\n&\nc@d", "forward a@b; EmptyForward"),
            (
                b"a@b\n+list\nc@d\n./e\nf@g",
                "forward a@b; forward c@d; FileForbidden",
            ),
            (b"+listing\n+\n|x", "program x"),
            (b"+list\n|x", "ProgramForbidden"),
            (b"./Maildir/\r\n", "CarriageReturn"),
            (b"#comment\r\na\0b@c", "Nul"),
            (b".", "mbox ."),
        ] {
            assert_eq!(shown(file, false), want, "{}", file.escape_ascii());
        }
        assert_eq!(shown(b"a@b\n./x\nc@d", true), "forward a@b; FileForbidden");
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read(file in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), x: bool) {
            let lines = instructions(&file, x).count();
            proptest::prop_assert!(lines <= file.len());
        }
    }
}
