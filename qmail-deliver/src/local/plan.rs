//! What is to be done for a message, decided without doing anything.

use bytes::Bytes;
use qmail_core::dot_qmail::{Instruction, InstructionError, instructions};

/// What is to be done, in order: an instruction file understood.
///
/// Steps are carried out one by one; forwards are gathered, and sent last as one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Up to the first line that cannot be followed.
    pub steps: Vec<Step>,
    /// That line's fault: it defers the message once the steps before it are done.
    pub error: Option<InstructionError>,
}

/// One step of a [`Plan`]. Names of files are as they were written: relative to the home directory unless they start with a
/// slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Append to a file in mbox format.
    Mbox(Bytes),
    /// Deliver into a Maildir.
    Maildir(Bytes),
    /// Run a command of the shell.
    Program(Bytes),
    /// Send it on to this address.
    Forward(Bytes),
}

/// How many steps of each kind there were: `did F+W+P` of qmail-local(8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Did {
    pub(super) files: usize,
    pub(super) forwards: usize,
    pub(super) programs: usize,
}

impl Plan {
    /// Reads an instruction file. Nothing is copied.
    pub(super) fn read(file: &Bytes, forward_only: bool) -> Self {
        let mut plan = Self {
            steps: Vec::new(),
            error: None,
        };
        for instruction in instructions(file, forward_only) {
            match instruction {
                Ok(instruction) => plan.steps.push(match instruction {
                    Instruction::Mbox(name) => Step::Mbox(file.slice_ref(name)),
                    Instruction::Maildir(name) => Step::Maildir(file.slice_ref(name)),
                    Instruction::Program(command) => Step::Program(file.slice_ref(command)),
                    Instruction::Forward(address) => Step::Forward(file.slice_ref(address)),
                }),
                Err(error) => plan.error = Some(error),
            }
        }
        plan
    }

    /// A line for each step, as `qmail-local -n` prints them, and how many there were if all can be followed.
    ///
    /// ```text
    /// maildir ./Maildir/
    /// program vacation joe
    /// forward ann@example.org
    /// did 1+1+1
    /// ```
    pub fn describe(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut did = Did::default();
        for step in &self.steps {
            did.count(step);
            let (what, name) = match step {
                Step::Mbox(name) => (&b"mbox "[..], name),
                Step::Maildir(name) => (&b"maildir "[..], name),
                Step::Program(command) => (&b"program "[..], command),
                Step::Forward(address) => (&b"forward "[..], address),
            };
            text.extend_from_slice(what);
            text.extend_from_slice(name);
            text.push(b'\n');
        }
        if self.error.is_none() {
            text.extend_from_slice(did.to_string().as_bytes());
        }
        text
    }
}

impl Did {
    pub(super) fn count(&mut self, step: &Step) {
        match step {
            Step::Mbox(_) | Step::Maildir(_) => self.files += 1,
            Step::Forward(_) => self.forwards += 1,
            Step::Program(_) => self.programs += 1,
        }
    }
}

/// The line of qmail-local(8), with its LF.
impl std::fmt::Display for Did {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "did {}+{}+{}", self.files, self.forwards, self.programs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_can_be_told() {
        let file = Bytes::from_static(b"./m/\n./box\n|a b\nc@d\n");
        assert_eq!(
            Plan::read(&file, false).describe(),
            b"maildir ./m/\nmbox ./box\nprogram a b\nforward c@d\ndid 2+1+1\n"
        );
        let plan = Plan::read(&Bytes::from_static(b"c@d\n./box\ne@f\n"), true);
        assert_eq!(plan.describe(), b"forward c@d\n");
        assert_eq!(plan.error, Some(InstructionError::FileForbidden));
    }
}
