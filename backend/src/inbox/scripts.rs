//! The scripts, each in a file of its own that says what it takes, returns and guarantees.
//!
//! Those that lead to less being stored may run when the memory is full (`allow-oom`, Redis 7): otherwise a backend that
//! starts then could own no partition, and so never make room.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, aio::ConnectionLike};
use sha2::{Digest, Sha256};

pub(super) static ACCEPT: LazyLock<Script> = LazyLock::new(|| script(include_str!("accept.lua")));
pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("acquire.lua")));
pub(super) static ATTEND: LazyLock<Script> = LazyLock::new(|| script(include_str!("attend.lua")));
pub(super) static EXPIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("expire.lua")));
pub(super) static KEEP_TO: LazyLock<Script> = LazyLock::new(|| script(include_str!("keep_to.lua")));
pub(super) static MISSING: LazyLock<Script> = LazyLock::new(|| script(include_str!("missing.lua")));
pub(super) static PAUSE: LazyLock<Script> = LazyLock::new(|| script(include_str!("pause.lua")));
pub(super) static READMIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("readmit.lua")));
pub(super) static REPLAY: LazyLock<Script> = LazyLock::new(|| script(include_str!("replay.lua")));
pub(super) static REVIVE: LazyLock<Script> = LazyLock::new(|| script(include_str!("revive.lua")));
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

/// A call of a script with these keys, to which its arguments are added: with fewer copies than the client library's own,
/// for what is called for each event.
pub(super) fn call(script: &Script, keys: &[&str], size_of_arguments: usize) -> Cmd {
    let size = size_of_arguments + keys.iter().map(|key| key.len()).sum::<usize>();
    let mut call = Cmd::with_capacity(16, 64 + size);
    call.arg("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

/// Runs that, and where the server does not know the script loads it first.
pub(super) async fn run(script: &Script, call: &Cmd, connection: &mut impl ConnectionLike) -> Result<i64, RedisError> {
    match call.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            script.load_async(connection).await?;
            call.query_async(connection).await
        }
        answer => answer,
    }
}

/// What a seen key holds of a body: enough to notice that another one came, in 16 characters.
pub(super) fn body_hash(body: &[u8]) -> String {
    let hash = Sha256::digest(body).iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{hash:016x}")
}
