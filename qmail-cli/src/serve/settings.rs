//! What sessions and deliveries go by, exchanged as a whole when the control files are read again.

use std::sync::{Arc, PoisonError, RwLock};

use qmail_core::Submit;
use qmail_core::route::Tables;
use qmail_deliver::{Resolver, UserDirectory};
use qmail_smtp::server::{self, Dialect, Login};

use super::entrance::Entrance;
use super::rules::Rules;
use super::smtp::Door;
use super::{packages, pop3};
use crate::home::{EntranceControls, Pop3Controls, SmtpControls};
use crate::policy::{Policy, own_addresses};
use crate::report::Reporter;

/// The settings in force. A session keeps those that it began with.
pub(crate) struct Settings(RwLock<Current>);

#[derive(Clone)]
struct Current {
    tables: Arc<Tables>,
    rules: Arc<Rules>,
    pop3: Arc<pop3::Rules>,
}

impl Settings {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(RwLock::new(Current::new(seed)))
    }

    /// Puts others in force.
    pub(crate) fn replace(&self, seed: Seed) {
        let current = Current::new(seed);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.read().tables)
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.read().rules)
    }

    pub(crate) fn pop3(&self) -> Arc<pop3::Rules> {
        Arc::clone(&self.read().pop3)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What settings are made of.
pub(crate) struct Seed {
    pub(crate) smtp: SmtpControls,
    pub(crate) entrance: EntranceControls,
    /// For DNS lists and names of clients; absent where nothing can be asked.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    /// Who gets mail.
    pub(crate) users: Arc<dyn UserDirectory>,
    pub(crate) pop3: Pop3Controls,
    pub(crate) tables: Arc<Tables>,
    pub(crate) submit: Arc<dyn Submit>,
    pub(crate) reporter: Reporter,
}

impl Current {
    fn new(seed: Seed) -> Self {
        let configs = Door::ALL.map(|door| {
            let config = door_config(&seed.smtp, &seed.entrance, door);
            Arc::new(config)
        });
        let check = seed.entrance.check_recipients;
        Self {
            pop3: Arc::new(pop3::Rules {
                config: pop3_config(&seed.pop3),
                mechanisms: seed.entrance.mechanisms.clone(),
                in_clear: seed.entrance.login_in_clear,
                tls: seed.entrance.tls.clone(),
                maildirs: pop3::ShownMaildirs::default(),
            }),
            rules: Arc::new(Rules {
                configs,
                packages: packages_config(&seed.smtp, &seed.entrance),
                host: seed.pop3.hostname,
                policy: Policy::new(
                    &seed.smtp,
                    Arc::clone(&seed.tables),
                    // Without them a literal of this host is mail for another: refused, which is safe.
                    own_addresses().unwrap_or_default(),
                ),
                entrance: Entrance {
                    controls: seed.entrance,
                    resolver: seed.resolver,
                },
                tables: Arc::clone(&seed.tables),
                users: check.then_some(seed.users),
                submit: seed.submit,
                reporter: seed.reporter,
            }),
            tables: seed.tables,
        }
    }
}

/// How the sessions of one kind of listener behave.
fn door_config(controls: &SmtpControls, entrance: &EntranceControls, door: Door) -> server::Config {
    let mut config = smtp_config(controls);
    if door == Door::Lmtp {
        config.dialect = Dialect::Lmtp;
    }
    let extensions = &mut config.extensions;
    extensions.limits = true;
    // Queue and deliveries carry any octets, and the client side knows when the next host must know it, too.
    extensions.smtp_utf8 = true;
    extensions.chunking = entrance.chunking;
    extensions.starttls = entrance.tls.is_some() && door.client_waits();
    if !entrance.mechanisms.is_empty() && (entrance.tls.is_some() || entrance.login_in_clear) {
        let mut login = Login::new(entrance.mechanisms.clone());
        login.in_clear = entrance.login_in_clear;
        config.login = Some(login);
    }
    if let Some(timeout) = entrance.data_timeout {
        config.timeouts.data = timeout;
    }
    if let Some(errors_max) = entrance.errors_max {
        config.errors_max = errors_max;
    }
    if let Some(recipients_max) = entrance.recipients_max {
        config.recipients_max = recipients_max;
    }
    config
}

/// How SMTP sessions behave.
pub(crate) fn smtp_config(controls: &SmtpControls) -> server::Config {
    let mut config = server::Config::new(controls.greeting.clone());
    config.message_octets_max = controls.message_octets_max;
    if let Some(timeout) = controls.timeout {
        config.timeouts.command = timeout;
        config.timeouts.data_block = timeout;
    }
    config
}

fn packages_config(controls: &SmtpControls, entrance: &EntranceControls) -> packages::Config {
    let default = packages::Config::default();
    packages::Config {
        message_octets_max: controls.message_octets_max,
        recipients_max: entrance.recipients_max.unwrap_or(default.recipients_max),
        idle: controls.timeout.unwrap_or(default.idle),
        whole: entrance.data_timeout.unwrap_or(default.whole),
    }
}

fn pop3_config(controls: &Pop3Controls) -> qmail_pop3::Config {
    let mut config = qmail_pop3::Config::default();
    config.idle = controls.timeout;
    config
}
