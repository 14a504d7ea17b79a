//! The programs of a mail system, under qmail's names, in one binary.
//!
//! The binary looks at the base name of `argv[0]`: a link named `qmail-smtpd` is that program. Called by any other name it
//! takes the program from its first argument: `qmail serve`, `qmail smtpd`. `qmail help` lists them all.
//!
//! Exit codes are qmail's: 0 done, 100 wrong use or a permanent failure, 111 a temporary one; some programs have more, as
//! their manual pages say.
//!
//! Mail logic is in the other crates; here are command lines, files, sockets, processes and signals.
#![forbid(unsafe_code)]

mod alias_tools;
mod applet;
mod applets;
mod cdb_file;
mod checkpassword;
mod classic;
mod command_line;
mod composition;
mod delivery;
mod descriptor;
mod dns_lists;
mod doctor;
mod exit;
mod getopt;
mod getpw;
mod home;
mod inherited;
mod injection;
mod input;
mod install;
mod interpose;
mod log;
mod log_input;
mod maildir_bounce;
mod maildir_files;
mod manual;
mod partition;
mod passwords;
mod policy;
mod privilege;
mod queue_config;
mod queue_convert;
mod queue_desk;
mod queue_program;
mod queue_submit;
mod replace;
mod report;
mod sandbox;
mod send;
mod serial_message;
mod serial_peer;
mod serial_smtp;
mod serve;
mod service_manager;
mod socket_path;
mod spawner;
mod stdio;
mod submission_client;
mod tcp_peer;
mod timeout_table;
mod tls;
mod ucspi;
mod utmp;

pub use applet::{applet_names, main};
