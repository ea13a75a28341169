//! The scripts, each in a file of its own that says what it takes, returns and guarantees.
//!
//! Those that lead to less being stored may run when the memory is full (`allow-oom`, Redis 7): otherwise a backend that
//! starts then could own no partition, and so never make room.

use std::sync::LazyLock;

use redis::Script;
use sha2::{Digest, Sha256};

pub(super) static ACCEPT: LazyLock<Script> = LazyLock::new(|| script(include_str!("accept.lua")));
pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("acquire.lua")));
pub(super) static ATTEND: LazyLock<Script> = LazyLock::new(|| script(include_str!("attend.lua")));
pub(super) static EXPIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("expire.lua")));
pub(super) static MISSING: LazyLock<Script> = LazyLock::new(|| script(include_str!("missing.lua")));
pub(super) static PAUSE: LazyLock<Script> = LazyLock::new(|| script(include_str!("pause.lua")));
pub(super) static READMIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("readmit.lua")));
pub(super) static REPLAY: LazyLock<Script> = LazyLock::new(|| script(include_str!("replay.lua")));
pub(super) static SET_APART: LazyLock<Script> = LazyLock::new(|| script(include_str!("set_apart.lua")));
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| script(include_str!("renew.lua")));
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| script(include_str!("release.lua")));
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| script(include_str!("complete.lua")));
pub(super) static RETRY: LazyLock<Script> = LazyLock::new(|| script(include_str!("retry.lua")));
pub(super) static BURY: LazyLock<Script> = LazyLock::new(|| script(include_str!("bury.lua")));

fn script(text: &str) -> Script {
    #[cfg(feature = "mutations")]
    let text = &crate::mutation::mutate(text);
    Script::new(text)
}

/// What a seen key holds of a body: enough to notice that another one came, in 16 characters.
pub(super) fn body_hash(body: &[u8]) -> String {
    Sha256::digest(body).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
