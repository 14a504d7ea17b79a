//! Reads the small part of Markdown that pages are written in.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) name: String,
    pub(super) section: char,
    pub(super) summary: String,
    pub(super) blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    Heading(String),
    Paragraph(Vec<Span>),
    /// Lines that stay as they are.
    Literal(String),
    /// A term to be explained; its explanation follows as an [`Block::Explanation`].
    Term(Vec<Span>),
    /// A paragraph of the explanation of the term before it.
    Explanation(Vec<Span>),
    /// An element of a list.
    Bullet(Vec<Span>),
}

/// A piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Span {
    Plain(String),
    /// What is typed as it stands.
    Literal(String),
    /// What is to be replaced, or stressed.
    Emphasis(String),
}

/// Reads a page. The pages are part of this program: what is not understood is left out, and a test would miss it.
///
/// The first heading is `NAME(SECTION)`, or `NAME(SECTION): SUMMARY`.
pub(super) fn read(text: &str) -> Page {
    let mut reader = Reader::default();
    for event in Parser::new_ext(text, Options::ENABLE_DEFINITION_LIST) {
        reader.event(event);
    }
    reader.page
}

#[derive(Default)]
struct Reader {
    page: Page,
    spans: Vec<Span>,
    literal: Option<String>,
    emphasis: bool,
    in_item: bool,
    in_explanation: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => self.text(&text),
            Event::Code(code) => self.spans.push(Span::Literal(code.into_string())),
            Event::SoftBreak | Event::HardBreak => self.spans.push(Span::Plain(" ".to_owned())),
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        match &mut self.literal {
            Some(literal) => literal.push_str(text),
            None if self.emphasis => self.spans.push(Span::Emphasis(text.to_owned())),
            None => self.spans.push(Span::Plain(text.to_owned())),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::CodeBlock(_) => self.literal = Some(String::new()),
            Tag::Emphasis => self.emphasis = true,
            Tag::Item => self.in_item = true,
            Tag::DefinitionListDefinition => self.in_explanation = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(HeadingLevel::H1) => self.title(),
            TagEnd::Heading(_) => {
                let heading = plain(&std::mem::take(&mut self.spans));
                self.page
                    .blocks
                    .push(Block::Heading(heading.to_uppercase()));
            }
            TagEnd::Paragraph => self.flush(),
            TagEnd::CodeBlock => {
                let literal = self.literal.take().unwrap_or_default();
                self.page.blocks.push(Block::Literal(literal));
            }
            TagEnd::Emphasis => self.emphasis = false,
            TagEnd::Item => {
                self.flush();
                self.in_item = false;
            }
            TagEnd::DefinitionListTitle => {
                let spans = std::mem::take(&mut self.spans);
                self.page.blocks.push(Block::Term(spans));
            }
            TagEnd::DefinitionListDefinition => {
                self.flush();
                self.in_explanation = false;
            }
            _ => {}
        }
    }

    fn flush(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        if spans.is_empty() {
            return;
        }
        self.page.blocks.push(if self.in_explanation {
            Block::Explanation(spans)
        } else if self.in_item {
            Block::Bullet(spans)
        } else {
            Block::Paragraph(spans)
        });
    }

    fn title(&mut self) {
        let title = plain(&std::mem::take(&mut self.spans));
        let (name, summary) = title.split_once(": ").unwrap_or((&title, ""));
        let (name, section) = name.split_once('(').unwrap_or((name, "8)"));
        self.page.name = name.to_owned();
        self.page.section = section.chars().next().unwrap_or('8');
        self.page.summary = summary.to_owned();
    }
}

fn plain(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match span {
            Span::Plain(text) | Span::Literal(text) | Span::Emphasis(text) => text.as_str(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = read(
            "# try(5): a test\n\n## Description\n\nOne `two`\n*three*.\n\n    literal\n      lines\n\n`-a` *x*\n: Does\n  it.\n\n- item\n",
        );
        assert_eq!((page.name.as_str(), page.section), ("try", '5'));
        assert_eq!(page.summary, "a test");
        let span = |text: &str| Span::Plain(text.to_owned());
        assert_eq!(
            page.blocks,
            [
                Block::Heading("DESCRIPTION".to_owned()),
                Block::Paragraph(vec![
                    span("One "),
                    Span::Literal("two".to_owned()),
                    span(" "),
                    Span::Emphasis("three".to_owned()),
                    span("."),
                ]),
                Block::Literal("literal\n  lines\n".to_owned()),
                Block::Term(vec![
                    Span::Literal("-a".to_owned()),
                    span(" "),
                    Span::Emphasis("x".to_owned())
                ]),
                Block::Explanation(vec![span("Does"), span(" "), span("it.")]),
                Block::Bullet(vec![span("item")]),
            ]
        );
    }
}
