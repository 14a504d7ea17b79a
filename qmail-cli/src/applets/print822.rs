//! `822print`: shows a message for reading on paper or in a pager (mess822).

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use qmail_core::header::date::write_ctime;
use qmail_core::header::mailbox::{self, Mailbox};
use qmail_core::header::{Field, FieldDate, Splitter};

use crate::applet::{Applet, Call, Kind};
use crate::injection::{HEADER_OCTETS_MAX, HeaderError, copy_body, read_header, standard_input};
use crate::{classic, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["822print"],
    kind: Kind::Classic,
    summary: "show a message for reading, with its header in order",
    run,
};

const NAME: &str = "822print";

/// Columns of a line.
const WIDTH: usize = 78;
/// Most columns that both sides take together on one line, so that two blanks are between.
const BOTH_MAX: usize = 76;
/// Most columns of one side, where a text needs several lines.
const SIDE_MAX: usize = 50;

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Underlined,
    Bold,
}

/// Fields in the order they are shown; a dash is a line across. What is not here comes last, as it came.
const ORDER: [&str; 21] = [
    "Subject",
    "From",
    "Date",
    "Return-Path",
    "Received",
    "Delivered-To",
    "Errors-To",
    "Return-Receipt-To",
    "In-Reply-To",
    "References",
    "Message-ID",
    "-",
    "To",
    "Cc",
    "Bcc",
    "Notice-Requested-Upon-Delivery-To",
    "-",
    "Sender",
    "Reply-To",
    "Mail-Reply-To",
    "Mail-Followup-To",
];

/// Fields that are lists of addresses.
const LISTS: [&str; 11] = [
    "From",
    "Return-Path",
    "To",
    "Cc",
    "Bcc",
    "Notice-Requested-Upon-Delivery-To",
    "Sender",
    "Reply-To",
    "Mail-Reply-To",
    "Mail-Followup-To",
    "Errors-To",
];

fn run(_: &Call) -> ExitCode {
    let mut input = standard_input();
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let header = read_header(
        &mut input,
        Splitter::with_leading_blanks(HEADER_OCTETS_MAX),
        |field: &Field<'_>| {
            fields.push((field.name().to_vec(), field.value().to_vec()));
            Ok::<(), std::convert::Infallible>(())
        },
    );
    let (end, start) = match header {
        Ok(body) => body,
        Err(HeaderError::Read(error)) => {
            return exit::fatal(
                NAME,
                &format_args!("unable to read input: {error}"),
                exit::TEMPORARY,
            );
        }
        Err(HeaderError::TooLong) => return exit::fatal(NAME, &"out of memory", exit::TEMPORARY),
        Err(HeaderError::Field(never)) => match never {},
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = out.write_all(&page(&fields));
    let copied = copy_body(&mut input, end, &start, false, |octets| {
        if written.is_ok() {
            written = out.write_all(octets);
        }
    });
    let written = written.and_then(|()| out.flush());
    match (copied, written) {
        (Err(error), _) => exit::fatal(
            NAME,
            &format_args!("unable to read input: {error}"),
            exit::TEMPORARY,
        ),
        (_, Err(error)) => exit::fatal(
            NAME,
            &format_args!("unable to write output: {error}"),
            exit::TEMPORARY,
        ),
        _ => ExitCode::SUCCESS,
    }
}

/// The whole header, ready to be shown.
fn page(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut page = Vec::new();
    let known = |name: &[u8]| {
        ORDER
            .iter()
            .any(|order| order.as_bytes().eq_ignore_ascii_case(name))
    };
    for order in ORDER {
        if order == "-" {
            page.extend_from_slice(&[b'-'; WIDTH]);
            page.push(b'\n');
            continue;
        }
        for (_, value) in fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(order.as_bytes()))
        {
            show(order, value, &mut page);
        }
    }
    for (name, value) in fields.iter().filter(|(name, _)| !known(name)) {
        row(
            &[&text(name)[..], b":"].concat(),
            &text(value),
            Style::Plain,
            &mut page,
        );
    }
    page
}

/// One field: label and value, or names and addresses.
fn show(name: &str, value: &[u8], page: &mut Vec<u8>) {
    if name == "Date"
        && let Some(date) = FieldDate::read(value)
    {
        let unix = date.unix();
        let mut local = Vec::new();
        write_ctime(
            unix.saturating_add(i64::from(classic::local_zone().offset_at(unix))),
            &mut local,
        );
        row(
            &[&b"Date: "[..], &text(value)].concat(),
            &local,
            Style::Plain,
            page,
        );
    } else if LISTS.contains(&name) {
        let mut mailboxes = Vec::new();
        mailbox::read(value, &mut mailboxes);
        for Mailbox {
            name: beside,
            address,
        } in mailboxes
        {
            let left = format!("{name}: ").into_bytes();
            let left = [left, text(&beside.unwrap_or_default())].concat();
            let mut right = Vec::new();
            mailbox::write_address(&address.unwrap_or_default(), &mut right);
            let style = if name == "From" {
                Style::Bold
            } else {
                Style::Plain
            };
            row(&left, &text(&right), style, page);
        }
    } else {
        let style = if name == "Subject" {
            Style::Underlined
        } else {
            Style::Plain
        };
        row(format!("{name}:").as_bytes(), &text(value), style, page);
    }
}

/// Text with single blanks. A control octet could do anything to a terminal, and is shown as `?`.
fn text(octets: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = octets
        .split(|octet| octet.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    let mut text = words.join(&b' ');
    for octet in &mut text {
        if octet.is_ascii_control() {
            *octet = b'?';
        }
    }
    text
}

/// A text at the left margin and one at the right, over as many lines as they need.
fn row(mut left: &[u8], mut right: &[u8], style: Style, page: &mut Vec<u8>) {
    loop {
        let (left_take, right_take) = if left.len() + right.len() <= BOTH_MAX {
            (left.len(), right.len())
        } else {
            let left_take = left.len().min(SIDE_MAX);
            (
                left_take,
                right.len().min(SIDE_MAX).min(BOTH_MAX - left_take),
            )
        };
        let (left_part, left_rest) = left.split_at(left_take);
        let (right_part, right_rest) = right.split_at(right_take);
        page.extend_from_slice(left_part);
        if !right_part.is_empty() {
            page.resize(page.len() + WIDTH - left_take - right_take, b' ');
            overstrike(right_part, style, page);
        }
        page.push(b'\n');
        (left, right) = (left_rest, right_rest);
        if left.is_empty() && right.is_empty() {
            return;
        }
    }
}

/// Writes a text the way printers and pagers make it stand out.
fn overstrike(text: &[u8], style: Style, page: &mut Vec<u8>) {
    for &octet in text {
        match style {
            Style::Plain => page.push(octet),
            Style::Underlined => page.extend_from_slice(&[b'_', 8, octet]),
            Style::Bold => page.extend_from_slice(&[octet, 8, octet]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_two_margins() {
        let mut page = Vec::new();
        row(b"To", b"a@b", Style::Plain, &mut page);
        assert_eq!(page.len(), WIDTH + 1);
        page.clear();
        row(&[b'l'; 60], &[b'r'; 60], Style::Plain, &mut page);
        let lines: Vec<_> = page
            .split(|&octet| octet == b'\n')
            .map(<[u8]>::len)
            .collect();
        assert_eq!(lines, [WIDTH, WIDTH, 0]);
        page.clear();
        row(b"S", b"ab", Style::Underlined, &mut page);
        assert!(page.ends_with(b" _\x08a_\x08b\n"));
    }

    #[test]
    fn fields_come_in_order() {
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let page = page(&[
            field("X-A", " 1"),
            field("to", " Ann <a@b>, c@d"),
            field("SUBJECT", " hi\x1b[2J"),
        ]);
        let lines: Vec<_> = page.split(|&octet| octet == b'\n').collect();
        assert!(lines[0].starts_with(b"Subject") && !lines[0].contains(&0x1b));
        assert_eq!(lines[1], [b'-'; WIDTH]);
        assert!(lines[2].starts_with(b"To: Ann ") && lines[2].ends_with(b" a@b"));
        assert!(lines[3].starts_with(b"To:") && lines[3].ends_with(b" c@d"));
        assert!(lines[5].starts_with(b"X-A") && lines[5].ends_with(b" 1"));
    }
}
