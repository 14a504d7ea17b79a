//! The manual: one page for each program and file format, written once, shown by `--help` and `qmail manual`, and made into
//! pages for man(1).
//!
//! The pages of the classic programs and of the file formats are the files of `man/`, in a small part of Markdown: headings,
//! paragraphs, literal blocks, lists, and definition lists for options. The new programs describe their own options; their
//! pages are made of that, in section 1: qmail-queue(8) is the classic program, qmail-queue(1) is `qmail queue`.

mod markdown;
mod pages;
mod roff;
mod text;

use clap::Command;

use crate::applet::{APPLETS, Kind};

use markdown::Page;
pub(crate) use pages::COMMANDS;

/// A page of the manual.
pub(crate) struct Manual {
    /// What it is about, as man(1) has it: `qmail-smtpd`, `dot-qmail`.
    pub(crate) name: String,
    /// Section of the manual: `1` programs for people, `5` files, `8` servers and administration.
    pub(crate) section: char,
    source: Source,
}

enum Source {
    Written(Page),
    Options(Box<Command>),
}

impl Manual {
    /// The page of a program, by any of its names, or of a file format.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::of_command(name).or_else(|| Self::written(name))
    }

    /// Every page, sorted by name.
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<_> = pages::PAGES
            .iter()
            .filter_map(|&(name, _)| Self::written(name))
            .chain(
                COMMANDS
                    .iter()
                    .filter_map(|&(name, _)| Self::of_command(name)),
            )
            .collect();
        all.sort_by(|a, b| (&a.name, a.section).cmp(&(&b.name, b.section)));
        all
    }

    /// The page of a classic program, by any of its names, or of a file format.
    pub(crate) fn written(name: &str) -> Option<Self> {
        let applet = APPLETS
            .iter()
            .find(|applet| applet.kind == Kind::Classic && applet.names.contains(&name));
        let name = applet.map_or(name, |applet| applet.names[0]);
        let text = pages::PAGES
            .iter()
            .find_map(|&(page, text)| (page == name).then_some(text))?;
        let mut page = markdown::read(text);
        if let Some(applet) = applet {
            page.summary = applet.summary.to_owned();
        }
        Some(Self {
            name: name.to_owned(),
            section: page.section,
            source: Source::Written(page),
        })
    }

    fn of_command(name: &str) -> Option<Self> {
        let (_, command) = COMMANDS.iter().find(|&&(command, _)| command == name)?;
        Some(Self {
            name: format!("qmail-{name}"),
            section: '1',
            source: Source::Options(Box::new(command())),
        })
    }

    /// The page as plain text, at most [`text::COLUMNS`] wide but for literal lines.
    pub(crate) fn text(&self) -> String {
        match &self.source {
            Source::Written(page) => text::render(page),
            Source::Options(command) => Command::clone(command).render_long_help().to_string(),
        }
    }

    /// The page for man(1).
    pub(crate) fn roff(&self) -> Vec<u8> {
        match &self.source {
            Source::Written(page) => roff::render(page),
            Source::Options(command) => roff::render_options(Command::clone(command), &self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_page() {
        for applet in APPLETS {
            let name = applet.names[0];
            let found = match applet.kind {
                Kind::Classic => Manual::written(name).is_some(),
                Kind::Command => Manual::of_command(name).is_some(),
                Kind::Internal => continue,
            };
            assert!(
                found,
                "{name} has no page: add man/{name}.md (classic) or its options to manual/pages.rs"
            );
        }
    }

    #[test]
    fn every_file_is_a_page_of_something() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/man")).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().path().file_stem().unwrap().to_owned())
            .collect();
        files.sort();
        let pages: Vec<_> = pages::PAGES.iter().map(|&(name, _)| name).collect();
        assert_eq!(files, pages, "man/ and manual/pages.rs");
        for name in pages {
            let manual = Manual::written(name).unwrap();
            let program = APPLETS
                .iter()
                .any(|applet| applet.kind == Kind::Classic && applet.names[0] == name);
            assert!(
                program || "57".contains(manual.section) || name == "qmail-command",
                "{name} is about no program and no file"
            );
        }
    }

    #[test]
    fn every_page_says_what_it_is_and_how_it_is_called() {
        for (name, text) in pages::PAGES {
            let page = markdown::read(text);
            assert_eq!(page.name, *name);
            assert!(
                "158".contains(page.section),
                "{name}: section {}",
                page.section
            );
            let manual = Manual::written(name).unwrap();
            let Source::Written(page) = &manual.source else {
                panic!("{name} is written");
            };
            assert!(!page.summary.is_empty(), "{name} has no summary");
            let text = manual.text();
            if APPLETS.iter().any(|applet| applet.names[0] == *name) {
                assert!(text.contains("\nSYNOPSIS\n"), "{name} has no synopsis");
            }
            assert!(
                text.contains("\nDESCRIPTION\n"),
                "{name} has no description"
            );
            assert!(
                text.lines().all(|line| line.len() <= 120),
                "{name} has a line that is too long"
            );
        }
    }

    #[test]
    fn pages_refer_to_pages_that_exist() {
        let known: Vec<_> = Manual::all()
            .iter()
            .map(|page| format!("{}({})", page.name, page.section))
            .collect();
        for (name, text) in pages::PAGES {
            let Some((_, see_also)) = text.split_once("## See also\n") else {
                continue;
            };
            for reference in see_also.split([',', '\n']).map(str::trim) {
                if reference.starts_with("qmail") || reference.starts_with("dot-") {
                    assert!(
                        known.iter().any(|page| page == reference),
                        "{name} refers to {reference}, which does not exist"
                    );
                }
            }
        }
    }
}
