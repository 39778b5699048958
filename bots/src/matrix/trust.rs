//! Whether our own device is signed by our own identity.

use matrix_sdk::Client;

/// True when people's clients see this device as signed by its owner. Asks the homeserver for the newest keys.
pub(super) async fn is_signed(client: &Client) -> matrix_sdk::Result<bool> {
    if let Some(user) = client.user_id() {
        client.encryption().request_user_identity(user).await?;
    }
    let device = client.encryption().get_own_device().await?;
    Ok(device.is_some_and(|device| device.is_cross_signed_by_owner()))
}
