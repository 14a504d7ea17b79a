//! What the owner says to the session's questions.

use qmail_core::{Address, Envelope, Question, Reply, ReversePath};

use super::super::event::{BodyEnd, CloseReason, Data, Mail, Rcpt, Verdict};
use super::super::replies;
use super::{Asked, Phase, Session, Transaction};

impl Session {
    /// Settles [`Event::Mail`](super::super::Event::Mail).
    ///
    /// This and the other answers do nothing if another question, or none, is open: the token was another session's.
    pub fn answer_mail(&mut self, question: Question<Mail>, verdict: Verdict) {
        self.settle_mail(question, verdict, None);
    }

    /// Settles [`Event::Mail`](super::super::Event::Mail) with yes, under another address.
    pub fn accept_mail_as(&mut self, question: Question<Mail>, sender: ReversePath) {
        self.settle_mail(question, Verdict::Accept, Some(sender));
    }

    /// Settles [`Event::Rcpt`](super::super::Event::Rcpt).
    pub fn answer_rcpt(&mut self, question: Question<Rcpt>, verdict: Verdict) {
        self.settle_rcpt(question, verdict, None);
    }

    /// Settles [`Event::Rcpt`](super::super::Event::Rcpt) with yes, under another address: the host's own literal by its
    /// name, or RELAYCLIENT's suffix appended (qmail-smtpd(8)).
    pub fn accept_rcpt_as(&mut self, question: Question<Rcpt>, recipient: Address) {
        self.settle_rcpt(question, Verdict::Accept, Some(recipient));
    }

    /// Settles [`Event::Data`](super::super::Event::Data). After a yes the message follows, and ends with
    /// [`Event::BodyEnd`](super::super::Event::BodyEnd) or [`Event::Aborted`](super::super::Event::Aborted).
    pub fn answer_data(&mut self, question: Question<Data>, verdict: Verdict) {
        let asked = self.answered(question, |asked| matches!(asked, Asked::Data { .. }));
        let Some(Asked::Data { recipients, chunk }) = asked else {
            return;
        };
        match (verdict, chunk) {
            (Verdict::Accept, None) => {
                self.reply(&replies::data_go_ahead());
                self.begin_message(recipients, None);
            }
            (Verdict::Reply(reply), None) => {
                self.reply(&reply);
                if is_yes_to_data(&reply) {
                    self.begin_message(recipients, None);
                }
            }
            // The chunk is on its way already, whatever the answer.
            (Verdict::Reply(reply), Some(chunk)) if !is_yes_to_data(&reply) => {
                self.drop_chunk(chunk, reply);
            }
            (Verdict::Accept | Verdict::Reply(_), Some(_)) => {
                self.begin_message(recipients, chunk);
            }
            (Verdict::Close(reply), _) => self.close_with(&reply, CloseReason::Refused),
        }
        self.resume();
    }

    /// Settles [`Event::BodyEnd`](super::super::Event::BodyEnd): after a yes the client believes that the message is safe.
    /// In LMTP it is the answer for each recipient.
    pub fn answer_body_end(&mut self, question: Question<BodyEnd>, verdict: Verdict) {
        self.settle_body_end(question, std::iter::repeat(verdict));
    }

    /// Settles [`Event::BodyEnd`](super::super::Event::BodyEnd) in LMTP, for each recipient in the order of the envelope.
    /// One without a verdict is told 451 4.3.0. In SMTP only the first verdict counts.
    pub fn answer_recipients(
        &mut self,
        question: Question<BodyEnd>,
        verdicts: impl IntoIterator<Item = Verdict>,
    ) {
        self.settle_body_end(question, verdicts.into_iter());
    }

    fn settle_body_end(
        &mut self,
        question: Question<BodyEnd>,
        mut verdicts: impl Iterator<Item = Verdict>,
    ) {
        let asked = self.answered(question, |asked| matches!(asked, Asked::BodyEnd { .. }));
        let Some(Asked::BodyEnd { answers }) = asked else {
            return;
        };
        for _ in 0..answers {
            let verdict = verdicts.next();
            let verdict = verdict.unwrap_or_else(|| Verdict::Reply(replies::unanswered()));
            let closes = matches!(verdict, Verdict::Close(_));
            if self.decide(verdict, replies::body_ok) {
                self.idle_commands = 0;
            }
            if closes {
                break;
            }
        }
        self.resume();
    }

    fn settle_mail(
        &mut self,
        question: Question<Mail>,
        verdict: Verdict,
        instead: Option<ReversePath>,
    ) {
        let asked = self.answered(question, |asked| matches!(asked, Asked::Mail { .. }));
        let Some(Asked::Mail { sender, smtp_utf8 }) = asked else {
            return;
        };
        if self.decide(verdict, replies::mail_ok) {
            let sender = instead.unwrap_or(sender);
            self.standing.smtp_utf8 = smtp_utf8;
            self.transaction = Some(Transaction {
                octets: sender.as_bytes().len(),
                envelope: Envelope::new(sender, Vec::new()),
            });
        }
        self.resume();
    }

    fn settle_rcpt(
        &mut self,
        question: Question<Rcpt>,
        verdict: Verdict,
        instead: Option<Address>,
    ) {
        let Some(Asked::Rcpt(recipient)) =
            self.answered(question, |asked| matches!(asked, Asked::Rcpt(_)))
        else {
            return;
        };
        if self.decide(verdict, replies::rcpt_ok)
            && let Some(transaction) = &mut self.transaction
        {
            let recipient = instead.unwrap_or(recipient);
            transaction.octets += recipient.as_bytes().len();
            transaction.envelope.recipients.push(recipient);
        } else {
            self.count_idle_command();
        }
        self.resume();
    }

    /// Takes the open question away, if it is of the right kind.
    pub(super) fn answered<K>(
        &mut self,
        _question: Question<K>,
        right_kind: impl Fn(&Asked) -> bool,
    ) -> Option<Asked> {
        match &self.phase {
            Phase::Asked(asked) if right_kind(asked) => {
                match std::mem::replace(&mut self.phase, Phase::Command) {
                    Phase::Asked(asked) => Some(asked),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Replies as the owner wishes; `true` if that was a yes.
    fn decide(&mut self, verdict: Verdict, yes: fn() -> Reply) -> bool {
        match verdict {
            Verdict::Accept => {
                self.reply(&yes());
                true
            }
            Verdict::Reply(reply) => {
                self.reply(&reply);
                (200..300).contains(&reply.code())
            }
            Verdict::Close(reply) => {
                self.close_with(&reply, CloseReason::Refused);
                false
            }
        }
    }
}

fn is_yes_to_data(reply: &Reply) -> bool {
    (300..400).contains(&reply.code())
}
