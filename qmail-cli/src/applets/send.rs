//! `qmail-send`: the queue manager, as qmail-start starts it.

use std::process::ExitCode;
use std::sync::Arc;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::queue_submit::QueueSubmit;
use crate::{exit, send};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-send"],
    kind: Kind::Classic,
    summary: "deliver the messages of the queue; started by qmail-start",
    run,
};

fn run(_call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    let bounces = Arc::new(QueueSubmit {
        home: home.path().to_owned(),
    });
    match send::run(&home, bounces, 1..=6, send::Spawners::arrange, || Ok(())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::TEMPORARY),
        Err(error) => exit::fatal("qmail-send", &error, exit::TEMPORARY),
    }
}
