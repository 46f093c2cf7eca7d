//! A disk that fails: a library between a child process and its C library, and what such a disk holds after a loss of
//! power.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The library, built once for a test.
pub struct Disk {
    built: TempDir,
}

impl Disk {
    /// Builds it with the C compiler that the rest of the build needs, too.
    pub fn build() -> Self {
        let built = TempDir::new().expect("a directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kit/disk.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]);
        compile.arg(built.path().join("disk.so")).arg(source).arg("-ldl").arg("-lpthread");
        assert!(compile.status().expect("a C compiler").success());
        // A server may run as another user.
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(built.path(), mode).expect("permissions");
        Self { built }
    }

    /// Lets a command have this disk below a directory.
    pub fn give(&self, command: &mut Command, directory: &Path) {
        command.env("LD_PRELOAD", self.built.path().join("disk.so"));
        command.env("DISK_DIRECTORY", directory).env("DISK_ORDERS", self.orders());
    }

    /// The file whose text says what fails.
    pub fn orders(&self) -> PathBuf {
        self.built.path().join("orders")
    }

    /// Whether a synchronization hangs now.
    pub fn hangs(&self) -> bool {
        hangs(&self.orders())
    }

    /// Says what fails from now on.
    pub fn order(&self, text: &str) {
        order(&self.orders(), text);
    }
}

/// Whether a synchronization hangs now, by the file that the library makes then.
pub fn hangs(orders: &Path) -> bool {
    orders.with_extension("hangs").exists()
}

/// Sets which calls fail from now on. A concurrent reader of the file sees the old order or the new one.
pub fn order(orders: &Path, text: &str) {
    let file = orders.with_extension("new");
    fs::write(&file, text).expect("written");
    fs::rename(file, orders).expect("renamed");
}

/// A change that was made, or a synchronization.
enum Step {
    Write { offset: u64, data: Vec<u8>, old: Vec<u8>, size: u64 },
    Cut { length: u64, old: Vec<u8>, size: u64 },
    Synchronize,
}

/// The part of a disk that is written as a whole.
const SECTOR: usize = 512;

/// Makes the files what a disk may hold after a loss of power. What was synchronized is there. Of what was not, whether
/// it was written, grown or cut, `is_kept` says sector by sector whether it is: any part of it, in any order. Names of
/// files are never lost.
pub fn lose_power(journal: &Path, mut is_kept: impl FnMut() -> bool) {
    for (path, steps) in unsynchronized(&fs::read(journal).expect("the journal")) {
        let mut content = fs::read(&path).unwrap_or_default();
        for step in steps.iter().rev() {
            match step {
                Step::Write { offset, old, size, .. } => {
                    let at = *offset as usize;
                    content.resize((*size as usize).max(at + old.len()), 0);
                    content[at..at + old.len()].copy_from_slice(old);
                    content.truncate(*size as usize);
                }
                Step::Cut { length, old, size } => {
                    content.resize((*length).min(*size) as usize, 0);
                    content.extend_from_slice(old);
                    content.resize(*size as usize, 0);
                }
                Step::Synchronize => {}
            }
        }
        for step in &steps {
            match step {
                Step::Write { offset, data, .. } => {
                    let mut at = *offset as usize;
                    let mut data = &data[..];
                    while !data.is_empty() {
                        let (sector, rest) = data.split_at(data.len().min(SECTOR - at % SECTOR));
                        if is_kept() {
                            content.resize(content.len().max(at + sector.len()), 0);
                            content[at..at + sector.len()].copy_from_slice(sector);
                        }
                        (at, data) = (at + sector.len(), rest);
                    }
                }
                Step::Cut { length, .. } if is_kept() => content.resize(*length as usize, 0),
                Step::Cut { .. } | Step::Synchronize => {}
            }
        }
        fs::write(path, content).expect("written");
    }
}

/// What came after the last synchronization of each file.
fn unsynchronized(mut journal: &[u8]) -> BTreeMap<PathBuf, Vec<Step>> {
    let mut files = BTreeMap::<PathBuf, Vec<Step>>::new();
    // The last record may have been cut off: its change was never made.
    while let Some((head, rest)) = journal.split_first_chunk::<48>() {
        let number = |index: usize| {
            let bytes = head[index * 8..][..8].try_into().expect("eight bytes");
            u64::from_ne_bytes(bytes)
        };
        let [kind, name, offset, length, size, old] = std::array::from_fn(number);
        let Some((record, after)) = rest.split_at_checked((name + length + old) as usize) else { break };
        let (name, data) = record.split_at(name as usize);
        let (data, old) = data.split_at(length as usize);
        let steps = files.entry(PathBuf::from(str::from_utf8(name).expect("a path"))).or_default();
        steps.push(match kind as u8 {
            b'w' => Step::Write { offset, data: data.to_vec(), old: old.to_vec(), size },
            b't' => Step::Cut { length: offset, old: old.to_vec(), size },
            _ => Step::Synchronize,
        });
        if let Some(Step::Synchronize) = steps.last() {
            steps.clear();
        }
        journal = after;
    }
    files
}
