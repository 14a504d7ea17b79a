//! A page as plain text, for a terminal.

use super::markdown::{Block, Page, Span};

/// Widest line of running text.
pub(super) const COLUMNS: usize = 80;

/// What stands before running text, and before an explanation.
const INDENT: &str = "    ";
const DEEP_INDENT: &str = "        ";

/// The page.
pub(super) fn render(page: &Page) -> String {
    let mut text = format!("NAME\n{INDENT}{} - {}\n", page.name, page.summary);
    let mut before: Option<&Block> = None;
    for block in &page.blocks {
        // An explanation stands right under its term; the elements of a list stand together.
        let close = matches!(
            (before, block),
            (Some(Block::Heading(_)), _)
                | (Some(Block::Term(_)), Block::Explanation(_))
                | (Some(Block::Bullet(_)), Block::Bullet(_))
        );
        if !close {
            text.push('\n');
        }
        match block {
            Block::Heading(heading) => {
                text.push_str(heading);
                text.push('\n');
            }
            Block::Paragraph(spans) => wrap(&mut text, INDENT, INDENT, spans),
            Block::Term(spans) => wrap(&mut text, INDENT, INDENT, spans),
            Block::Explanation(spans) => wrap(&mut text, DEEP_INDENT, DEEP_INDENT, spans),
            Block::Bullet(spans) => wrap(&mut text, "    - ", "      ", spans),
            Block::Literal(lines) => {
                for line in lines.lines() {
                    text.push_str(DEEP_INDENT);
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        before = Some(block);
    }
    text
}

/// Appends running text in lines of at most [`COLUMNS`]; what is literal is not broken at its blanks.
fn wrap(text: &mut String, first: &str, others: &str, spans: &[Span]) {
    let mut line = String::from(first);
    let mut empty = true;
    for word in words(spans) {
        if !empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line = String::from(others);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(&word);
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

fn words(spans: &[Span]) -> Vec<String> {
    let mut words = vec![String::new()];
    for span in spans {
        match span {
            Span::Literal(literal) => words
                .last_mut()
                .into_iter()
                .for_each(|word| word.push_str(literal)),
            Span::Plain(text) | Span::Emphasis(text) => {
                let mut parts = text.split(' ');
                if let (Some(part), Some(word)) = (parts.next(), words.last_mut()) {
                    word.push_str(part);
                }
                words.extend(parts.map(str::to_owned));
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
