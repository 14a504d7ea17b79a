//! `qmail-lspawn`: starts local deliveries for qmail-send, each as the user whom the address belongs to.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use qmail_core::{Address, Outcome, ProgramEnd};
use qmail_deliver::{AssignedUsers, User, UserDirectory as _};
use qmail_queue::helpers::spawn::{Refusal, Request};
use rustix::process::geteuid;
use tokio::process::Command;

use crate::applet::{Applet, Call, Kind};
use crate::getpw::Getpw;
use crate::home::Home;
use crate::spawner::{self, Spawner};
use crate::{classic, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-lspawn"],
    kind: Kind::Classic,
    summary: "start local deliveries for qmail-send, each as its user",
    run,
};

struct Local {
    home: Home,
    default_delivery: OsString,
    assigned: AssignedUsers,
    getpw: Getpw,
    /// Whether deliveries are made as their users. In a home of one's own, without root's rights, they are not.
    switches: bool,
}

fn run(call: &Call) -> ExitCode {
    let Some(default_delivery) = call.arguments.first() else {
        let words = "usage: qmail-lspawn defaultdelivery";
        return exit::fatal(call.name, &words, exit::PERMANENT);
    };
    let home = Home::choose(None, None);
    let getpw = match Getpw::of(&home) {
        Ok(getpw) => getpw,
        Err(error) => return exit::fatal(call.name, &error, exit::TEMPORARY),
    };
    let local = Local {
        default_delivery: default_delivery.clone(),
        assigned: AssignedUsers::by_cdb(home.path()),
        getpw,
        switches: geteuid().is_root() || !home.is_own(),
        home: home.clone(),
    };
    spawner::run(call.name, &home, &local)
}

impl Local {
    async fn user(&self, recipient: &[u8]) -> Result<User, Outcome> {
        let recipient =
            Address::new(recipient.to_vec()).map_err(|_| Refusal::AddressTooLong.outcome())?;
        let assigned = self.assigned.find(&recipient).await;
        let user = match assigned.map_err(|error| error.outcome())? {
            Some(user) => user,
            None => self.getpw.find(&recipient).await?,
        };
        if user.uid == 0 {
            let text = "Not allowed to perform deliveries as root.\n";
            return Err(Outcome::Deferred(text.into()));
        }
        Ok(user)
    }
}

impl Spawner for Local {
    const OUTPUT_OCTETS_MAX: usize = 3000;

    const NOT_RUN: &'static str = "Unable to run qmail-local.\n";

    async fn command(
        &self,
        request: &Request,
        local: &[u8],
        host: &[u8],
    ) -> Result<Command, Outcome> {
        if local.is_empty() {
            // The mail of nobody is thrown away.
            return Err(Outcome::Delivered("".into()));
        }
        let user = self.user(&request.recipient).await?;
        let program = classic::command(&self.home, "qmail-local");
        let program = program.map_err(|_| Outcome::Deferred(Self::NOT_RUN.into()))?;
        let mut command = Command::from(program);
        command
            .arg("--")
            .arg(OsStr::from_bytes(&user.name))
            .arg(&user.home)
            .args(
                [local, &user.dash, &user.extension, host, &request.sender].map(OsStr::from_bytes),
            )
            .arg(&self.default_delivery)
            .current_dir(self.home.path());
        if self.switches {
            // Root's other groups are dropped with this, too.
            command.gid(user.gid).uid(user.uid);
        }
        Ok(command)
    }

    fn outcome(&self, end: ProgramEnd, mut output: Vec<u8>, more: bool) -> Outcome {
        if more {
            output.truncate(Self::OUTPUT_OCTETS_MAX - TOO_LONG.len() - 3);
            output.extend_from_slice(TOO_LONG);
        }
        end.local_outcome(&output)
    }
}

const TOO_LONG: &[u8] = b"\nError report too long, sorry.\n";
