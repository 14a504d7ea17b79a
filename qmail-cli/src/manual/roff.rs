//! A page for man(1).

use roff::{Inline, Roff, bold, italic, roman};

use super::markdown::{Block, Page, Span};

/// The page.
pub(super) fn render(page: &Page) -> Vec<u8> {
    let mut roff = Roff::new();
    let section = page.section.to_string();
    roff.control("TH", [page.name.as_str(), &section, "", &source(), "qmail"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{} - {}", page.name, page.summary))]);
    for block in &page.blocks {
        match block {
            Block::Heading(heading) => {
                roff.control("SH", [heading.as_str()]);
            }
            Block::Paragraph(spans) => {
                roff.control("PP", []);
                roff.text(inlines(spans));
            }
            Block::Term(spans) => {
                roff.control("TP", []);
                roff.text(inlines(spans));
            }
            Block::Explanation(spans) => {
                roff.text(inlines(spans));
            }
            Block::Bullet(spans) => {
                roff.control("IP", ["\\(bu", "2"]);
                roff.text(inlines(spans));
            }
            Block::Literal(lines) => {
                roff.control("PP", []);
                roff.control("RS", ["4"]);
                roff.control("nf", []);
                for line in lines.lines() {
                    roff.text([roman(line)]);
                }
                roff.control("fi", []);
                roff.control("RE", []);
            }
        }
    }
    roff.render().into_bytes()
}

/// The page of a program that describes its own options.
pub(super) fn render_options(command: clap::Command, name: &str) -> Vec<u8> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command)
        .title(name)
        .section("1")
        .source(source())
        .manual("qmail");
    // Writing to memory does not fail.
    let _ = man.render(&mut page);
    page
}

fn source() -> String {
    format!("qmail {}", env!("CARGO_PKG_VERSION"))
}

fn inlines(spans: &[Span]) -> Vec<Inline> {
    spans
        .iter()
        .map(|span| match span {
            Span::Plain(text) => roman(text.as_str()),
            Span::Literal(text) => bold(text.as_str()),
            Span::Emphasis(text) => italic(text.as_str()),
        })
        .collect()
}
