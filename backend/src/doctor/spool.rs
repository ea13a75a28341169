//! The disk for large results.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;
use tokio::task::spawn_blocking;

use super::{Checked, Finding};
use crate::{config::Config, units::bytes};

const ADVICE: &str = "set `partner_api.spool_folder` to a writable folder on a disk with more space, or free some";

pub(super) async fn check(config: &Config) -> Checked {
    let api = &config.partner_api;
    let folder = match api.spool_folder.as_str() {
        "" => env::temp_dir(),
        folder => PathBuf::from(folder),
    };
    let shown = folder.display().to_string();
    let unusable = |problem: String| Finding::failure(format!("{shown} {problem}"), ADVICE);
    let free = spawn_blocking(move || free_space(&folder)).await.map_err(|error| unusable(error.to_string()))?;
    let free = free.map_err(|error| unusable(format!("cannot be used: {error}")))?;
    let all = api.max_response_bytes.saturating_mul(config.worker.parallelism as u64);
    Ok(judge(&shown, free, api.max_response_bytes, all))
}

/// Makes sure that a file can be created in the folder, and returns how many bytes are free there.
fn free_space(folder: &Path) -> io::Result<u64> {
    tempfile::tempfile_in(folder)?;
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Judges the free space: it must suffice for one result, and should suffice for all attempts.
fn judge(folder: &str, free: u64, one: u64, all: u64) -> Finding {
    let space = bytes(free);
    if free < one {
        return Finding::failure(format!("{folder} has {space} free, less than one result may take"), ADVICE);
    }
    if free < all {
        let most = bytes(all);
        return Finding::warning(format!("{folder} has {space} free; results may take {most} at once"), ADVICE);
    }
    Finding::pass(format!("{folder} is writable and has {space} free"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn there_must_be_space_for_one_result_and_should_be_for_all() {
        for (free, status) in [(99, Status::Failure), (100, Status::Warning), (6_400, Status::Pass)] {
            assert_eq!(judge("/spool", free, 100, 6_400).status, status, "{free}");
        }
    }

    #[test]
    fn the_space_of_a_folder_that_does_not_exist_is_an_error() {
        assert!(free_space(Path::new("/missing/folder")).is_err());
        assert!(free_space(&env::temp_dir()).is_ok_and(|free| free > 0));
    }
}
