//! What controllers make of the API server's answers.

/// An object that is gone, or is another one by now, needs no more: its informer tells what became of it.
///
/// # Errors
/// All others.
pub(crate) fn unless_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}
