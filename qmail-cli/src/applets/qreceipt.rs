//! `qreceipt`: answers messages that ask for a notice upon delivery.

use std::io;
use std::process::ExitCode;

use qmail_core::alias::words;
use qmail_core::header::date::write_date;
use qmail_core::header::{Field, Splitter};
use qmail_core::{QueueFailure, ReversePath};

use crate::applet::{Applet, Call, Kind};
use crate::delivery::{ForwardError, variable};
use crate::exit;
use crate::home::Home;
use crate::injection::{
    HEADER_OCTETS_MAX, HeaderError, host_control, octets, read_header, stamp, standard_input,
};
use crate::queue_program::QueueProgram;

pub(crate) const APPLET: Applet = Applet {
    names: &["qreceipt"],
    kind: Kind::Classic,
    summary: "answer a message that asks for a notice upon delivery",
    run,
};

/// What the header says that matters here.
#[derive(Default)]
struct Request {
    /// Our address is among those that a notice is asked for.
    wanted: bool,
    /// The field Message-ID as it stands there, with its line end.
    id: Vec<u8>,
}

fn run(call: &Call) -> ExitCode {
    let Some(address) = call.arguments.first().map(|address| octets(address)) else {
        let usage = "usage: qreceipt deliveryaddress";
        return exit::fatal(call.name, &usage, exit::PERMANENT);
    };
    let sender = match variable(call.name, "SENDER").map(ReversePath::new) {
        Ok(Ok(sender)) => sender,
        Ok(Err(error)) => {
            return exit::fatal(call.name, &format_args!("SENDER: {error}"), exit::PERMANENT);
        }
        Err(code) => return code,
    };
    // Bounces are never answered.
    if matches!(sender.as_bytes(), b"" | b"#@[]") {
        return ExitCode::SUCCESS;
    }
    let request = match read_request(address) {
        Ok(request) => request,
        Err(HeaderError::Field(())) => {
            let words = "unable to parse Notice-Requested-Upon-Delivery-To";
            return exit::fatal(call.name, &words, exit::PERMANENT);
        }
        Err(HeaderError::Read(error)) => {
            let words = format!("unable to read message: {error}");
            return exit::fatal(call.name, &words, exit::TEMPORARY);
        }
        Err(HeaderError::TooLong) => {
            return exit::fatal(call.name, &"header is too long", exit::TEMPORARY);
        }
    };
    if !request.wanted {
        return ExitCode::SUCCESS;
    }
    match notice(&sender, address, &request.id) {
        Ok(notice) => match send(&notice, &sender) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => ForwardError::Queue(failure).fatal(call.name),
        },
        Err(error) => {
            let words = format!("unable to write the notice: {error}");
            exit::fatal(call.name, &words, exit::TEMPORARY)
        }
    }
}

fn read_request(address: &[u8]) -> Result<Request, HeaderError<()>> {
    let mut request = Request::default();
    let splitter = Splitter::new(HEADER_OCTETS_MAX);
    read_header(&mut standard_input(), splitter, |field: &Field<'_>| {
        if field.is(b"Message-ID") {
            request.id = field.raw().to_vec();
        } else if field.is(b"Notice-Requested-Upon-Delivery-To") {
            let words = words(field.value()).map_err(drop)?;
            request.wanted |= words.iter().any(|word| word.octets == *address);
        }
        Ok(())
    })?;
    Ok(request)
}

fn notice(sender: &ReversePath, address: &[u8], id: &[u8]) -> io::Result<Vec<u8>> {
    let stamp = stamp()?;
    let home = Home::choose(None, None);
    let host = host_control(&home, "QMAILIDHOST", "idhost", "localhost")?;
    let quoted: Vec<_> = sender.quoted().into_iter().map(in_one_line).collect();
    let mut text = b"Date: ".to_vec();
    write_date(stamp.seconds, &mut text);
    text.extend_from_slice(b"\nMessage-ID: <");
    text.extend_from_slice(format!("{}.{}.qreceipt@", stamp.seconds, stamp.unique).as_bytes());
    for part in [
        &host[..],
        b">\nAuto-Submitted: auto-replied\nFrom: DELIVERY NOTICE SYSTEM <",
        &quoted,
        b">\nTo: <",
        &quoted,
        b">\nSubject: success notice\n\nHi! This is the qreceipt program. Your message was delivered to the\nfollowing address: ",
    ] {
        text.extend_from_slice(part);
    }
    text.extend(address.iter().copied().map(in_one_line));
    text.extend_from_slice(b". Thanks for asking.\n");
    if !id.is_empty() {
        text.extend_from_slice(b"Your ");
        text.extend_from_slice(id);
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
    }
    Ok(text)
}

fn send(notice: &[u8], to: &ReversePath) -> Result<(), QueueFailure> {
    let home = Home::choose(None, None);
    let mut queue = QueueProgram::start_in(home.path())?;
    queue.write(notice);
    queue.finish(b"", [to.as_bytes()]).map(drop)
}

fn in_one_line(octet: u8) -> u8 {
    if octet == b'\n' { b'_' } else { octet }
}
