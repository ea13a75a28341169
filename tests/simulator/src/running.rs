//! What a running `cargo up` leaves in its folder, so that other commands find it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The file with environment variables that make the commands use a running `cargo up`.
pub const FILE: &str = "env";
/// The variable with the webhook's URL.
pub const WEBHOOK: &str = "SIM_URL";
/// The variable with the simulator's URL.
pub const SIMULATOR: &str = "SIM_SIMULATOR";

/// The addresses of a running `cargo up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The webhook's URL.
    pub webhook: String,
    /// The simulator's URL.
    pub simulator: String,
}

/// The sole right to run in a folder. It ends with the process, however that ends.
#[derive(Debug)]
pub struct Claim {
    _folder: File,
}

impl Claim {
    /// Claims a folder; `None` if another `cargo up` runs in it.
    ///
    /// # Errors
    /// If the folder cannot be opened or locked.
    pub fn of(folder: &Path) -> io::Result<Option<Self>> {
        let file = File::open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _folder: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Running {
    /// Reads what a `cargo up` that runs in `folder` has left there; `None` if none runs.
    pub fn read(folder: &Path) -> Option<Self> {
        let is_running = matches!(File::open(folder).ok()?.try_lock_shared(), Err(TryLockError::WouldBlock));
        let text = fs::read_to_string(folder.join(FILE)).ok()?;
        Self::parse(&text).filter(|_| is_running)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Some(Self { webhook: value(WEBHOOK)?.to_owned(), simulator: value(SIMULATOR)?.to_owned() })
    }
}

/// The folder of `cargo up` in cargo's target directory, if this program runs from there.
pub fn usual_folder() -> Option<PathBuf> {
    // target/debug/sim
    Some(std::env::current_exe().ok()?.parent()?.parent()?.join("up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_found_among_other_variables() {
        let text = "# comment\nEDGE_DIR='/a b'\nSIM_URL=http://127.0.0.1:1/w\nSIM_SIMULATOR=http://127.0.0.1:2\n";
        let running = Running { webhook: "http://127.0.0.1:1/w".into(), simulator: "http://127.0.0.1:2".into() };
        assert_eq!(Running::parse(text), Some(running));
        assert_eq!(Running::parse("SIM_URL=http://127.0.0.1:1/w\n"), None);
    }

    #[test]
    fn what_a_killed_cargo_up_has_left_is_ignored_and_its_folder_can_be_claimed_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "SIM_URL=http://a/w\nSIM_SIMULATOR=http://b\n").unwrap();
        assert_eq!(Running::read(folder.path()), None);
        let claim = Claim::of(folder.path()).unwrap();
        assert!(claim.is_some() && Claim::of(folder.path()).unwrap().is_none());
        assert!(Running::read(folder.path()).is_some());
        drop(claim);
        assert_eq!(Running::read(folder.path()), None);
        assert!(Claim::of(folder.path()).unwrap().is_some());
    }
}
