//! Runs the conformance cases of `tests/cases/` on the programs, as ordinary tests.
//!
//! A case is data: files, arguments, environment and input of one program, or the steps of a scenario for a whole running
//! system, and what must be seen. `tests/README.md` has the format. Each case runs in a scratch home of its own, several at
//! a time, with a limit on its time; whatever it leaves running is killed.
//!
//! What does not pass yet is listed in `tests/not-passing.txt`. A listed case that passes is as much an error as another
//! that does not.
//!
//! The programs are reached as strangers reach them: by name, through arguments, environment and descriptors. Nothing here
//! knows their code.

mod accounts;
mod case;
mod difference;
mod failure;
mod hostile;
mod list;
mod machine;
mod mask;
mod octets;
mod process;
mod programs;
mod run;
mod scenario;
mod server;
mod suite;
mod tree;

pub use case::{Case, Description, Node, ServerStep, StdinFile, WorkingDirectory};
pub use difference::differences;
pub use failure::Failure;
pub use hostile::HostileClients;
pub use list::NotPassing;
pub use mask::{Mask, MaskError};
pub use octets::{Octets, Table, from_text, to_text};
pub use programs::Programs;
pub use run::{Observation, run_case};
pub use scenario::{Scenario, run_scenario};
pub use suite::{Cases, Outcome, Report, Verdict};
