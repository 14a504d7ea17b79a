//! What sessions and deliveries go by, exchanged as a whole when the control files are read again.

use std::sync::{Arc, PoisonError, RwLock};

use qmail_core::Submit;
use qmail_core::route::Tables;
use qmail_smtp::server;

use super::smtp;
use crate::home::{Pop3Controls, SmtpControls};
use crate::policy::{Policy, own_addresses};
use crate::report::Reporter;

/// The settings in force. A session keeps those that it began with.
pub(crate) struct Settings(RwLock<Current>);

#[derive(Clone)]
struct Current {
    tables: Arc<Tables>,
    smtp: Arc<smtp::Rules>,
    pop3: Arc<qmail_pop3::Config>,
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

    pub(crate) fn smtp(&self) -> Arc<smtp::Rules> {
        Arc::clone(&self.read().smtp)
    }

    pub(crate) fn pop3(&self) -> Arc<qmail_pop3::Config> {
        Arc::clone(&self.read().pop3)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What settings are made of.
pub(crate) struct Seed {
    pub(crate) smtp: SmtpControls,
    pub(crate) pop3: Pop3Controls,
    pub(crate) tables: Arc<Tables>,
    pub(crate) submit: Arc<dyn Submit>,
    pub(crate) reporter: Reporter,
}

impl Current {
    fn new(seed: Seed) -> Self {
        Self {
            pop3: Arc::new(pop3_config(&seed.pop3)),
            smtp: Arc::new(smtp::Rules {
                config: Arc::new(smtp_config(&seed.smtp)),
                host: seed.pop3.hostname,
                policy: Policy::new(
                    &seed.smtp,
                    Arc::clone(&seed.tables),
                    // Without them a literal of this host is mail for another: refused, which is safe.
                    own_addresses().unwrap_or_default(),
                ),
                submit: seed.submit,
                reporter: seed.reporter,
            }),
            tables: seed.tables,
        }
    }
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

fn pop3_config(controls: &Pop3Controls) -> qmail_pop3::Config {
    let mut config = qmail_pop3::Config::default();
    config.idle = controls.timeout;
    config
}
