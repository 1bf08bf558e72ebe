//! Calls about keys.

use reqwest::Method;
use trainshed_core::view::{KeyView, MadeKey, NewKey};

use super::{Client, Result, part};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// The keys of the workspace, without the keys themselves.
    pub async fn keys(&self) -> Result<Vec<KeyView>> {
        self.get("/keys").await
    }

    /// Makes a key; it is shown this once.
    pub async fn make_key(&self, name: &str) -> Result<MadeKey> {
        let name = name.to_owned();
        self.send(Method::POST, "/keys", &NewKey { name }).await
    }

    /// Takes a key back.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        let path = format!("/keys/{}", part(id));
        self.checked(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }
}
