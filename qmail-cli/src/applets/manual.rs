//! `qmail manual`: shows a page of the manual, or makes all of them for man(1).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::applet::{Applet, Call, Kind};
use crate::manual::Manual;
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["manual"],
    kind: Kind::Command,
    summary: "show a page of the manual, or make all of them for man(1)",
    run,
};

/// Shows a page of the manual, lists the pages, or makes all of them for man(1).
#[derive(Debug, Parser)]
#[command(
    name = "qmail manual",
    after_help = "Examples:\n  qmail manual\n  qmail manual qmail-inject\n  qmail manual --install /usr/local/share/man"
)]
pub(crate) struct Arguments {
    /// A program or a file format; nothing lists all pages
    page: Option<String>,

    /// Write every page below DIR, as man1/NAME.1, man5/NAME.5 and man8/NAME.8
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    install: Option<PathBuf>,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match (arguments.install, arguments.page) {
        (Some(directory), _) => install(&directory),
        (None, Some(name)) => show(&name),
        (None, None) => list(),
    }
}

fn show(name: &str) -> ExitCode {
    match Manual::find(name) {
        Some(manual) => {
            exit::print(&manual.text());
            ExitCode::SUCCESS
        }
        None => exit::fatal(
            "qmail",
            &format_args!("there is no page {name}; `qmail manual` lists them"),
            exit::PERMANENT,
        ),
    }
}

fn list() -> ExitCode {
    for manual in Manual::all() {
        exit::print(&format!("{}({})\n", manual.name, manual.section));
    }
    ExitCode::SUCCESS
}

fn install(directory: &Path) -> ExitCode {
    match write_all(directory) {
        Ok(count) => {
            exit::print(&format!("{}: {count} pages written\n", directory.display()));
            ExitCode::SUCCESS
        }
        Err((path, error)) => exit::fatal(
            "qmail",
            &format_args!(
                "cannot write {}: {error}; is it a place where you may write?",
                path.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

/// Writes all pages. Returns how many.
pub(crate) fn write_all(directory: &Path) -> Result<usize, (PathBuf, io::Error)> {
    let pages = Manual::all();
    for manual in &pages {
        let path = path_of(directory, manual);
        let written = match path.parent() {
            Some(section) => fs::create_dir_all(section),
            None => Ok(()),
        };
        written
            .and_then(|()| fs::write(&path, manual.roff()))
            .map_err(|error| (path, error))?;
    }
    Ok(pages.len())
}

/// Whether all pages are there as [`write_all`] would write them.
pub(crate) fn is_written(directory: &Path) -> bool {
    Manual::all()
        .iter()
        .all(|manual| fs::read(path_of(directory, manual)).is_ok_and(|page| page == manual.roff()))
}

fn path_of(directory: &Path, manual: &Manual) -> PathBuf {
    let Manual { name, section, .. } = manual;
    directory.join(format!("man{section}/{name}.{section}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_becomes_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let count = write_all(directory.path()).unwrap();
        let page = fs::read_to_string(directory.path().join("man8/qmail-smtpd.8")).unwrap();
        assert!(page.contains(".TH qmail-smtpd 8"), "{page}");
        assert!(directory.path().join("man1/qmail-serve.1").exists());
        let files = fs::read_dir(directory.path())
            .unwrap()
            .flat_map(|section| fs::read_dir(section.unwrap().path()).unwrap())
            .count();
        assert_eq!(files, count, "two pages have one name");
    }
}
