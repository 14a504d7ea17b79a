//! `bouncesaying`, `condredirect`, `except` and `forward`: what an instruction line decides by another program, or sends on.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::applet::{Applet, Call, Kind};
use crate::delivery::{self, Ended, ForwardError, variable};
use crate::exit;
use crate::injection::octets;

pub(crate) const BOUNCESAYING: Applet = Applet {
    names: &["bouncesaying"],
    kind: Kind::Classic,
    summary: "bounce a message with a text, if a program says so",
    run: bouncesaying,
};

pub(crate) const CONDREDIRECT: Applet = Applet {
    names: &["condredirect"],
    kind: Kind::Classic,
    summary: "send a message to another address, if a program says so",
    run: condredirect,
};

pub(crate) const EXCEPT: Applet = Applet {
    names: &["except"],
    kind: Kind::Classic,
    summary: "turn the answer of a program round",
    run: except,
};

pub(crate) const FORWARD: Applet = Applet {
    names: &["forward"],
    kind: Kind::Classic,
    summary: "send a message on to some addresses",
    run: forward,
};

fn bouncesaying(call: &Call) -> ExitCode {
    let Some((text, program)) = call.arguments.split_first() else {
        return usage(call, "error [ program [ arg ... ] ]");
    };
    let ended = match program.split_first() {
        Some((program, arguments)) => delivery::run(call.name, program, arguments),
        None => Ended::Exited(0),
    };
    match ended {
        Ended::Exited(0) => {
            let _ = io::stderr().write_all(&[octets(text), b"\n"].concat());
            ExitCode::from(exit::PERMANENT)
        }
        ended => otherwise(call, ended),
    }
}

fn condredirect(call: &Call) -> ExitCode {
    let [address, program, arguments @ ..] = &call.arguments[..] else {
        return usage(call, "newaddress program [ arg ... ]");
    };
    match delivery::run(call.name, program, arguments) {
        Ended::Exited(0) => {}
        ended => return otherwise(call, ended),
    }
    // The sender stays, unlike with `forward`: the message moves house, it is not passed round.
    let variables = variable(call.name, "SENDER")
        .and_then(|sender| Ok((sender, variable(call.name, "DTLINE")?)));
    let (sender, line) = match variables {
        Ok(variables) => variables,
        Err(code) => return code,
    };
    if let Err(error) = delivery::rewound() {
        let words = format!("unable to rewind message: {error}");
        return exit::fatal(call.name, &words, exit::TEMPORARY);
    }
    match delivery::forward(&line, &sender, [octets(address)]) {
        Ok(qp) => {
            let _ = writeln!(io::stderr(), "{}: qp {qp}", call.name);
            ExitCode::from(99)
        }
        Err(error) => error.fatal(call.name),
    }
}

fn except(call: &Call) -> ExitCode {
    let Some((program, arguments)) = call.arguments.split_first() else {
        return usage(call, "program [ arg ... ]");
    };
    match delivery::run(call.name, program, arguments) {
        Ended::Exited(0) => ExitCode::from(exit::PERMANENT),
        ended => otherwise(call, ended),
    }
}

/// The program did not say yes: that is no, unless it could not tell.
fn otherwise(call: &Call, ended: Ended) -> ExitCode {
    match ended {
        Ended::Exited(exit::TEMPORARY) => ExitCode::from(exit::TEMPORARY),
        Ended::Exited(_) => ExitCode::SUCCESS,
        Ended::Crashed => exit::fatal(call.name, &"child crashed", exit::TEMPORARY),
    }
}

fn forward(call: &Call) -> ExitCode {
    let sent = variable(call.name, "NEWSENDER").and_then(|sender| {
        let line = variable(call.name, "DTLINE")?;
        let recipients = call.arguments.iter().map(|address| octets(address));
        delivery::forward(&line, &sender, recipients)
            .map_err(|error: ForwardError| error.fatal(call.name))
    });
    match sent {
        Ok(qp) => {
            let _ = writeln!(io::stderr(), "{}: qp {qp}", call.name);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn usage(call: &Call, syntax: &str) -> ExitCode {
    exit::fatal(
        call.name,
        &format_args!("usage: {} {syntax}", call.name),
        exit::PERMANENT,
    )
}
