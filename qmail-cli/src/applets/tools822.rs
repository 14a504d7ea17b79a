//! Small filters over a header: `iftocc`, `822field`, `822header`, `822date`, `822received` (mess822).

use std::io::{self, BufReader, Write as _};
use std::process::ExitCode;

use qmail_core::header::date::write_ctime;
use qmail_core::header::mailbox;
use qmail_core::header::{Field, FieldDate, HeaderEnd, Splitter};

use crate::applet::{Applet, Call, Kind};
use crate::injection::{HEADER_OCTETS_MAX, HeaderError, first_variable, octets, read_header};
use crate::{classic, exit};

pub(crate) const IFTOCC: Applet = Applet {
    names: &["iftocc"],
    kind: Kind::Classic,
    summary: "tell whether a message is to some address",
    run: iftocc,
};

pub(crate) const FIELD: Applet = Applet {
    names: &["822field"],
    kind: Kind::Classic,
    summary: "print the fields of a name, unfolded",
    run: field,
};

pub(crate) const HEADER: Applet = Applet {
    names: &["822header"],
    kind: Kind::Classic,
    summary: "print the header of a message",
    run: header,
};

pub(crate) const DATE: Applet = Applet {
    names: &["822date"],
    kind: Kind::Classic,
    summary: "print the date of a message in three forms",
    run: date,
};

pub(crate) const RECEIVED: Applet = Applet {
    names: &["822received"],
    kind: Kind::Classic,
    summary: "print the way of a message, oldest first",
    run: received,
};

/// Reads the header on standard input.
fn read(name: &str, mut take: impl FnMut(&Field<'_>)) -> Result<Input, ExitCode> {
    let mut input = BufReader::new(LastOctet {
        input: io::stdin().lock(),
        last: b'\n',
    });
    let result = read_header(
        &mut input,
        Splitter::with_leading_blanks(HEADER_OCTETS_MAX),
        |field| {
            take(field);
            Ok::<(), std::convert::Infallible>(())
        },
    );
    match result {
        Ok((HeaderEnd::EndOfInput, _)) if input.get_ref().last != b'\n' => Ok(Input::EndsInLine),
        Ok(_) => Ok(Input::Whole),
        Err(HeaderError::Read(error)) => Err(exit::fatal(
            name,
            &format_args!("unable to read input: {error}"),
            exit::TEMPORARY,
        )),
        Err(HeaderError::TooLong) => Err(exit::fatal(name, &"out of memory", exit::TEMPORARY)),
        Err(HeaderError::Field(never)) => match never {},
    }
}

/// How the header on standard input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Whole,
    /// The input ended in the middle of a field's line; the field was given with a line end all the same.
    EndsInLine,
}

/// A reader that remembers the last octet it gave.
struct LastOctet<R> {
    input: R,
    last: u8,
}

impl<R: io::Read> io::Read for LastOctet<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.input.read(buffer)?;
        self.last = buffer[..octets].last().copied().unwrap_or(self.last);
        Ok(octets)
    }
}

/// Prints, and gives the exit code: 111 if that failed.
fn print(name: &str, text: &[u8], code: u8) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(code),
        Err(error) => exit::fatal(
            name,
            &format_args!("unable to write output: {error}"),
            exit::TEMPORARY,
        ),
    }
}

fn iftocc(call: &Call) -> ExitCode {
    let wanted: Vec<Vec<u8>> = if call.arguments.is_empty() {
        first_variable(&["RECIPIENT"]).into_iter().collect()
    } else {
        call.arguments
            .iter()
            .map(|argument| octets(argument).to_vec())
            .collect()
    };
    let mut found = false;
    let result = read("iftocc", |field| {
        if field.is(b"To") || field.is(b"Cc") {
            let mut mailboxes = Vec::new();
            mailbox::read(field.value(), &mut mailboxes);
            let mut addresses = mailboxes
                .iter()
                .filter_map(|mailbox| mailbox.address.as_ref());
            found |= addresses.any(|address| {
                wanted
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(address))
            });
        }
    });
    match result {
        Ok(_) if found => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::PERMANENT),
        Err(code) => code,
    }
}

/// The name to look for: the first argument, or a default.
fn wanted<'a>(call: &'a Call, default: &'static str) -> &'a [u8] {
    call.arguments
        .first()
        .map_or(default.as_bytes(), |name| octets(name))
}

fn field(call: &Call) -> ExitCode {
    let name = wanted(call, "Subject");
    let mut text = Vec::new();
    let result = read("822field", |field| {
        if field.is(name) {
            text.extend(field.value().iter().filter(|&&octet| octet != b'\n'));
            text.push(b'\n');
        }
    });
    match result {
        Ok(_) => print(
            "822field",
            &text,
            if text.is_empty() { exit::PERMANENT } else { 0 },
        ),
        Err(code) => code,
    }
}

fn header(_: &Call) -> ExitCode {
    let mut text = Vec::new();
    match read("822header", |field| text.extend_from_slice(field.raw())) {
        Ok(Input::EndsInLine) => {
            // Octet for octet: a last line without an end is printed without one.
            text.pop();
            print("822header", &text, 0)
        }
        Ok(Input::Whole) => print("822header", &text, 0),
        Err(code) => code,
    }
}

fn date(call: &Call) -> ExitCode {
    let name = wanted(call, "Date");
    let mut date = None;
    let result = read("822date", |field| {
        if field.is(name) {
            date = FieldDate::read(field.value()).or(date);
        }
    });
    if let Err(code) = result {
        return code;
    }
    let Some(date) = date else {
        return ExitCode::from(exit::PERMANENT);
    };
    let mut text = Vec::new();
    date.write_iso(&mut text);
    text.push(b'\n');
    FieldDate::from_unix(date.unix()).write_iso(&mut text);
    text.push(b'\n');
    write_local(date.unix(), &mut text);
    text.push(b'\n');
    print("822date", &text, 0)
}

/// The ctime form in local time.
fn write_local(unix: i64, sink: &mut Vec<u8>) {
    let local = unix.saturating_add(i64::from(classic::local_zone().offset_at(unix)));
    write_ctime(local, sink);
}

fn received(_: &Call) -> ExitCode {
    let mut fields = Vec::new();
    let result = read("822received", |field| {
        if field.is(b"Received") {
            let mut text = Vec::new();
            match FieldDate::read(field.value()) {
                Some(date) => write_local(date.unix(), &mut text),
                None => text.extend_from_slice(NO_DATE),
            }
            write_clauses(field.value(), &mut text);
            fields.push(text);
        }
    });
    match result {
        Ok(_) => {
            fields.reverse();
            print("822received", &fields.concat(), 0)
        }
        Err(code) => code,
    }
}

/// Stands where a date would.
const NO_DATE: &[u8] = b"\t\t\t";

/// Writes the text with single blanks. Before each clause, and before the date, a new line begins; comments stay whole.
fn write_clauses(value: &[u8], sink: &mut Vec<u8>) {
    let mut depth = 0usize;
    let words = value
        .split(|octet| octet.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        let clause = [&b"from"[..], b"by", b"for", b"id"]
            .iter()
            .any(|clause| clause.eq_ignore_ascii_case(word));
        if clause && index > 0 && depth == 0 {
            break_line(sink);
        }
        sink.push(b' ');
        for &octet in word {
            match octet {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b';' if depth == 0 => {
                    break_line(sink);
                    sink.push(b' ');
                }
                _ => {}
            }
            sink.push(octet);
        }
    }
    sink.push(b'\n');
}

fn break_line(sink: &mut Vec<u8>) {
    sink.push(b'\n');
    sink.extend_from_slice(NO_DATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_field_is_a_line_per_clause() {
        let mut sink = Vec::new();
        write_clauses(b" from a (by; id)  by b\n  for c with D; 1 Jan", &mut sink);
        assert_eq!(
            String::from_utf8(sink).unwrap(),
            " from a (by; id)\n\t\t\t by b\n\t\t\t for c with D\n\t\t\t ; 1 Jan\n"
        );
    }
}
