//! A JSON document that somebody else wrote, passed on as it is. A large one is kept in a file, so that many at once do not
//! fill the memory.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::spawn_blocking;

mod body;

pub use body::DocumentBody;

/// The document, cheap to clone. Personal data: not for logs.
#[derive(Debug, Clone)]
pub struct Document(Kept);

#[derive(Debug, Clone)]
enum Kept {
    Memory(Bytes),
    /// A part of a file that has no name, and so is gone when nobody has it open any more.
    File(Arc<File>, Range<u64>),
}

/// What comes piece by piece, and is kept in a file once it is large.
#[derive(Debug)]
pub(crate) enum Spool {
    Memory(Vec<u8>),
    File(File, u64),
}

/// From how many bytes on a document is kept in a file.
const LARGE: usize = 1 << 20;
/// How much of a file is read at a time.
const PIECE: usize = 64 << 10;

impl Document {
    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::File(_, range) => range.end - range.start,
        }
    }

    /// Whether it has none, which no JSON document has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it.
    pub(crate) fn part(&self, part: Range<u64>) -> Self {
        match &self.0 {
            Kept::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Self(Kept::Memory(bytes.slice(place(part.start)..place(part.end))))
            }
            Kept::File(file, range) => {
                Self(Kept::File(Arc::clone(file), range.start + part.start..range.start + part.end))
            }
        }
    }

    /// All of it, where it is not in a file.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match &self.0 {
            Kept::Memory(bytes) => Some(bytes),
            Kept::File(..) => None,
        }
    }

    /// Reads it with `read`, on a thread where that may take its time.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
    ) -> io::Result<T> {
        match self.0 {
            Kept::Memory(bytes) => Ok(read(&mut bytes.as_ref())),
            Kept::File(file, range) => {
                let mut reader = BufReader::with_capacity(PIECE, Part { file, range });
                spawn_blocking(move || read(&mut reader)).await.map_err(io::Error::other)
            }
        }
    }

    /// The document as a value of one's own.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub async fn parse<T: DeserializeOwned + Send + 'static>(self) -> io::Result<T> {
        if let Some(bytes) = self.in_memory() {
            return Ok(serde_json::from_slice(bytes)?);
        }
        Ok(self.read(|reader| serde_json::from_reader(reader)).await??)
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self(Kept::Memory(value.to_string().into()))
    }
}

impl Spool {
    pub(crate) fn new() -> Self {
        Self::Memory(Vec::new())
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Adds a piece, in a file in `folder` once there is much.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) async fn add(self, piece: Bytes, folder: Arc<Path>) -> io::Result<Self> {
        match self {
            Self::Memory(mut bytes) if bytes.len() + piece.len() < LARGE => {
                bytes.extend_from_slice(&piece);
                Ok(Self::Memory(bytes))
            }
            before => spawn_blocking(move || before.add_to_file(&piece, &folder)).await.map_err(io::Error::other)?,
        }
    }

    fn add_to_file(self, piece: &[u8], folder: &Path) -> io::Result<Self> {
        let (mut file, length) = match self {
            Self::File(file, length) => (file, length),
            Self::Memory(bytes) => {
                let mut file =
                    if folder.as_os_str().is_empty() { tempfile::tempfile()? } else { tempfile::tempfile_in(folder)? };
                file.write_all(&bytes)?;
                (file, bytes.len() as u64)
            }
        };
        file.write_all(piece)?;
        Ok(Self::File(file, length + piece.len() as u64))
    }

    pub(crate) fn finish(self) -> Document {
        match self {
            Self::Memory(bytes) => Document(Kept::Memory(bytes.into())),
            Self::File(file, length) => Document(Kept::File(Arc::new(file), 0..length)),
        }
    }
}

/// Reads a part of a file, without a place in it that others would share.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    range: Range<u64>,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..most], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}
