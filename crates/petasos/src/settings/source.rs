//! Where settings come from, so that they can be read again: flags and environment of the process, which stay, and the file.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Given, Options};

/// Where the settings of a process come from.
#[derive(Default)]
pub(crate) struct Source {
    /// By the keys of the settings.
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) is_for_development: bool,
}

impl Source {
    /// Reads everything: the file and the key files.
    ///
    /// # Errors
    /// The first setting that is wrong: where it was given, and what to write instead.
    pub(crate) fn read(&self) -> Result<Options, String> {
        self.base().gather(&self.flags, &self.environment, self.file.as_deref())
    }

    /// Reads the key files only; all else is as given.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) fn read_key_files(&self, given: Given) -> Result<Options, String> {
        self.base().fill(given)
    }

    /// Everything that is wrong with single settings, each with where it was given and what to write instead.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut options = self.base();
        match options.find(&self.flags, &self.environment, self.file.as_deref()) {
            Ok(given) => options.problems(&given),
            Err(problem) => vec![problem],
        }
    }

    fn base(&self) -> Options {
        if self.is_for_development { Options::for_development() } else { Options::default() }
    }
}
