//! The Lua scripts. Each one is a file that states its keys, arguments, answer and invariant.
//!
//! The scripts that free memory, or are needed to do so, run even when Redis has reached
//! `maxmemory` (`allow-oom`, since Redis 7). Otherwise a backend that starts while the memory is
//! full could own no partition, and so never free any.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, aio::ConnectionLike};
use sha2::{Digest, Sha256};

use crate::mutation;

pub(super) static ACCEPT: LazyLock<Script> = LazyLock::new(|| script(include_str!("accept.lua")));
pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("acquire.lua")));
pub(super) static ATTEND: LazyLock<Script> = LazyLock::new(|| script(include_str!("attend.lua")));
pub(super) static COMPARE: LazyLock<Script> = LazyLock::new(|| script(include_str!("compare.lua")));
pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| recording(include_str!("complete.lua")));
pub(super) static CONFIRM_PAUSE: LazyLock<Script> = LazyLock::new(|| script(include_str!("confirm_pause.lua")));
pub(super) static COUNT_DEAD_LETTERS: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("count_dead_letters.lua")));
pub(super) static DEAD_LETTER: LazyLock<Script> = LazyLock::new(|| recording(include_str!("dead_letter.lua")));
pub(super) static EXPIRE: LazyLock<Script> = LazyLock::new(|| script(include_str!("expire.lua")));
pub(super) static FORGET: LazyLock<Script> = LazyLock::new(|| script(include_str!("forget.lua")));
pub(super) static PAUSE: LazyLock<Script> = LazyLock::new(|| script(include_str!("pause.lua")));
pub(super) static QUARANTINE: LazyLock<Script> = LazyLock::new(|| script(include_str!("quarantine.lua")));
pub(super) static RAISE_FORMAT: LazyLock<Script> = LazyLock::new(|| script(include_str!("raise_format.lua")));
pub(super) static READMIT: LazyLock<Script> = LazyLock::new(|| script(include_str!("readmit.lua")));
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| script(include_str!("release.lua")));
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| script(include_str!("renew.lua")));
pub(super) static REPLAY: LazyLock<Script> = LazyLock::new(|| recording(include_str!("replay.lua")));
pub(super) static RETRY: LazyLock<Script> = LazyLock::new(|| script(include_str!("retry.lua")));
/// The same as [`RETRY`], but also runs when the memory is full.
pub(super) static RETRY_WHEN_FULL: LazyLock<Script> =
    LazyLock::new(|| script(&include_str!("retry.lua").replacen("#!lua", "#!lua flags=allow-oom", 1)));
pub(super) static REVIVE: LazyLock<Script> = LazyLock::new(|| recording(include_str!("revive.lua")));

fn script(text: &str) -> Script {
    mutation::instead!(Fencing => Script::new(&mutation::without_fencing(text)));
    Script::new(text)
}

/// Returns a script that adds to the history. `record.lua` is part of it where it says so.
fn recording(text: &str) -> Script {
    script(&text.replacen("-- With record.lua.\n", include_str!("record.lua"), 1))
}

/// Returns a call of a script, to which the caller adds the arguments.
///
/// For scripts that run once for each event: it copies less than the client library's own
/// invocation.
pub(super) fn call(script: &Script, keys: &[&str], size_of_arguments: usize) -> Cmd {
    let size_of_keys: usize = keys.iter().map(|key| key.len()).sum();
    let mut call = Cmd::with_capacity(16, 64 + size_of_keys + size_of_arguments);
    call.arg("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

/// Runs a call of a script. If the server does not know the script, loads it first.
///
/// # Errors
/// If Redis cannot be reached, or answers with an error.
pub(super) async fn run(script: &Script, call: &Cmd, connection: &mut impl ConnectionLike) -> Result<i64, RedisError> {
    match call.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            script.load_async(connection).await?;
            call.query_async(connection).await
        }
        answer => answer,
    }
}

/// Returns the hash of a body that its seen key stores: 16 characters, enough to notice a
/// redelivery with another body.
pub(super) fn body_hash(body: &[u8]) -> String {
    let hash = Sha256::digest(body).iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{hash:016x}")
}
