//! Several directories of users, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use qmail_core::Address;

use super::{User, UserDirectory, UserError};

/// Asks several directories in order; the first that knows the recipient answers.
///
/// One that is out of order ends the search: the recipient might be its.
#[derive(Clone)]
pub struct FirstOf(pub Vec<Arc<dyn UserDirectory>>);

#[async_trait]
impl UserDirectory for FirstOf {
    async fn find(&self, recipient: &Address) -> Result<Option<User>, UserError> {
        for directory in &self.0 {
            if let Some(user) = directory.find(recipient).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FirstOf").field(&self.0.len()).finish()
    }
}
