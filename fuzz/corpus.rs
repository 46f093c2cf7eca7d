//! For the tests of crates, each of which has this in its `fuzzing`: its targets take every input of the corpus.

use super::Target;

/// Panics if a target refuses an input of its folder, which is named, or if it has none.
pub(crate) fn every_input_passes(targets: &[Target]) {
    for (name, target) in targets {
        let folder = format!("{}/../../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut inputs = 0;
        for file in files {
            let path = file.expect("an entry").path();
            let input = std::fs::read(&path).expect("an input");
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{folder} is empty");
    }
}
