//! Mutations: variants of the backend in which one protection is removed. For each of them, the
//! chaos suite or an end-to-end test shows that its absence is noticed.
//!
//! They exist only in the binary `backend-mutated` (cargo feature `mutations`), where the
//! environment variable `BACKEND_MUTATION` names one. Production code has only one-line hooks:
//! [`instead`], or a call of a function below.

#[cfg(feature = "mutations")]
mod enabled;
#[cfg(feature = "mutations")]
pub(crate) use enabled::*;

/// Returns a mutated result from the enclosing function if the process runs with that mutation.
/// Without the cargo feature `mutations` it expands to nothing.
macro_rules! instead {
    ($mutation:ident => $result:expr) => {{
        #[cfg(feature = "mutations")]
        if $crate::mutation::is_active($crate::mutation::Mutation::$mutation) {
            return $result;
        }
    }};
}

pub(crate) use instead;
