//! Where mail goes, by domain: which recipients are local, which relay takes the others, and who may ask for it.
//!
//! | question | asked by | answered by |
//! |---|---|---|
//! | is this recipient local? under which name? | the queue | [`Tables::route`] |
//! | is this a host that mail may be sent to from outside? | SMTP, QMTP servers | [`RcptHosts::allows`] |
//! | is this sender refused? | SMTP server | [`BadMailFrom::refuses`] |
//! | which host takes mail for that domain? | remote delivery | [`SmtpRoutes::find`] |
//!
//! Domains are compared without regard to ASCII case, and by nothing else. Lookups hash; they do not allocate.

mod admit;
mod smtp_routes;
mod tables;

pub use admit::{BadMailFrom, RcptHosts};
pub use smtp_routes::{Relay, RelayHost, RelayLogin, RelayProtocol, SmtpRoute, SmtpRoutes};
pub use tables::{Route, Tables};
