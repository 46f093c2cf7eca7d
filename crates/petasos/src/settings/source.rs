//! Where settings come from, so that they can be read again: flags and environment of the process, which stay, and the file.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{acme::ACME_DOMAINS, certificates::TLS_CERT, development::TLS_DEV};

use super::{Address, Given, LISTEN, Options, SETTINGS, Value, file, outside_file};

/// Where the settings of a process come from.
#[derive(Default)]
pub(crate) struct Source {
    /// By the keys of the settings.
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) is_for_development: bool,
}

/// Where a hub listens.
pub(crate) struct Listens {
    pub(crate) address: Address,
    pub(crate) has_tls: bool,
    /// What is wrong with the file, if it cannot be used and nothing else gives the address.
    pub(crate) warning: Option<String>,
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

    /// Where the hub listens, and no more. Nothing else has to be right: a hub goes on that has refused wrong settings.
    ///
    /// # Errors
    /// The address is wrong: where it was given, and what to write instead.
    pub(crate) fn listen(&self) -> Result<Listens, String> {
        const KEYS: [&str; 4] = [LISTEN, TLS_CERT, ACME_DOMAINS, TLS_DEV];
        let (mut options, mut warning) = (self.base(), None);
        let mut is_given = false;
        for setting in SETTINGS.iter().filter(|setting| KEYS.contains(&setting.key)) {
            let value = outside_file(setting, &self.flags, &self.environment).or_else(|| {
                let (text, problem) = file::find(self.file.as_deref()?, setting.key);
                if setting.key == LISTEN {
                    warning = problem;
                }
                text.map(|(text, place)| Value { text, place })
            });
            if let Some(Value { text, place }) = value {
                (setting.set)(&mut options, &text).map_err(|problem| format!("{place}: {problem}"))?;
                is_given |= setting.key == LISTEN;
            }
        }
        options.listen_for_acme(is_given);
        Ok(Listens { has_tls: options.has_tls(), address: options.listen, warning })
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
