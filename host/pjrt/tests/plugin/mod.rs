//! The plugin that the tests use.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use trainshed_pjrt::{Client, Pjrt, Plugin};
use trainshed_tensor::Device;

/// The device of the plugin that the environment names.
pub(crate) fn device() -> Device {
    Device::Accelerator(Arc::new(Pjrt::new(client(), None, u64::MAX)))
}

/// A client of that plugin.
pub(crate) fn client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| Client::create(&Plugin::load(&path()).unwrap()).unwrap());
    client.clone()
}

/// The plugin that the environment names.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is configured by its environment"
)]
pub(crate) fn path() -> PathBuf {
    match std::env::var_os("TRAINSHED_PJRT_PLUGIN") {
        Some(path) => path.into(),
        None => panic!(
            "TRAINSHED_PJRT_PLUGIN is not set: it names the PJRT plugin that programs are \
             compared with. `cargo xtask test` fetches one (it needs Python with `venv`) and \
             sets it"
        ),
    }
}
