//! A JSON document that the Partner API wrote, passed on byte for byte.
//!
//! A large document is kept in a file, so that many at once do not fill the memory.

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

pub(crate) use body::DocumentBody;

/// A JSON document, cheap to clone. Personal data: do not log it.
#[derive(Debug, Clone)]
pub struct Document(Content);

/// Where a document's bytes are.
#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    /// A range of an unnamed temporary file, which disappears once nothing has it open.
    File(Arc<File>, Range<u64>),
}

/// Collects a document that arrives in pieces, and moves it to a file once it is large.
#[derive(Debug)]
pub(crate) enum Spool {
    Memory(Vec<u8>),
    /// The file, and how many bytes it has.
    File(File, u64),
}

/// Size in bytes from which a document is kept in a file.
const LARGE: usize = 1 << 20;
/// Number of bytes read from a file at a time.
const PIECE: usize = 64 << 10;

impl Document {
    /// Returns a document with this JSON text.
    pub(crate) fn from_json(text: String) -> Self {
        Self(Content::Memory(text.into()))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, range) => range.end - range.start,
        }
    }

    /// Whether the document is empty, which no JSON document is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the part of the document in a byte range, without copying it.
    pub(crate) fn part(&self, part: Range<u64>) -> Self {
        match &self.0 {
            Content::Memory(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Self(Content::Memory(bytes.slice(index(part.start)..index(part.end))))
            }
            Content::File(file, range) => {
                Self(Content::File(Arc::clone(file), range.start + part.start..range.start + part.end))
            }
        }
    }

    /// Returns the bytes if the document is in memory.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match &self.0 {
            Content::Memory(bytes) => Some(bytes),
            Content::File(..) => None,
        }
    }

    /// Calls `read` with a reader of the document; on a blocking thread if the document is in a
    /// file.
    ///
    /// # Errors
    /// If `read` panics on the blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
    ) -> io::Result<T> {
        match self.0 {
            Content::Memory(bytes) => Ok(read(&mut bytes.as_ref())),
            Content::File(file, range) => {
                let mut reader = BufReader::with_capacity(PIECE, FileRange { file, range });
                spawn_blocking(move || read(&mut reader)).await.map_err(io::Error::other)
            }
        }
    }

    /// Parses the document into a type of the caller's.
    ///
    /// # Errors
    /// If the document does not have that type's shape, or its file cannot be read.
    pub async fn parse<T: DeserializeOwned + Send + 'static>(self) -> io::Result<T> {
        if let Some(bytes) = self.in_memory() {
            return Ok(serde_json::from_slice(bytes)?);
        }
        Ok(self.read(|reader| serde_json::from_reader(reader)).await??)
    }
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self::from_json(value.to_string())
    }
}

impl Spool {
    pub(crate) fn new() -> Self {
        Self::Memory(Vec::new())
    }

    /// Returns the number of bytes collected so far.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Adds a piece, and moves everything to a file in `folder` once it is large. An empty `folder`
    /// means the system's folder for temporary files.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub(crate) async fn add(self, piece: Bytes, folder: Arc<Path>) -> io::Result<Self> {
        match self {
            Self::Memory(mut bytes) if bytes.len() + piece.len() < LARGE => {
                bytes.extend_from_slice(&piece);
                Ok(Self::Memory(bytes))
            }
            large => spawn_blocking(move || large.add_to_file(&piece, &folder)).await.map_err(io::Error::other)?,
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

    /// Returns the collected document.
    pub(crate) fn finish(self) -> Document {
        match self {
            Self::Memory(bytes) => Document(Content::Memory(bytes.into())),
            Self::File(file, length) => Document(Content::File(Arc::new(file), 0..length)),
        }
    }
}

/// Reads a range of a file by offset, since all clones of a document share the file and its cursor.
#[derive(Debug)]
struct FileRange {
    file: Arc<File>,
    /// What is left to read.
    range: Range<u64>,
}

impl Read for FileRange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let limit = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..limit], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spooled(pieces: &[&[u8]]) -> Document {
        let mut spool = Spool::new();
        for piece in pieces {
            spool = spool.add(Bytes::copy_from_slice(piece), Arc::from(Path::new(""))).await.unwrap();
        }
        assert_eq!(spool.len(), pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
        spool.finish()
    }

    async fn content(document: Document) -> Vec<u8> {
        let mut all = Vec::new();
        let read = document.read(|reader| reader.read_to_end(&mut all).map(|_| all)).await;
        read.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_document_moves_to_a_file_once_it_is_large() {
        let half = vec![b'a'; LARGE / 2];
        for (pieces, in_memory) in [
            (&[][..], true),
            (&[half.as_slice()], true),
            (&[&half, &half[1..]], true),
            (&[&half, &half], false),
            (&[&half, &half, b"end"], false),
        ] {
            let document = spooled(pieces).await;
            assert_eq!(document.in_memory().is_some(), in_memory, "{} bytes", document.len());
            assert!(content(document).await == pieces.concat(), "the bytes are those that were added");
        }
    }

    #[tokio::test]
    async fn a_part_is_the_same_in_memory_and_in_a_file() {
        let text = format!("{{\"data\":[\"{}\"]}}", "x".repeat(LARGE));
        let in_file = spooled(&[text.as_bytes()]).await;
        let in_memory = Document::from_json(text.clone());
        let end = text.len() as u64 - 1;
        for document in [in_file, in_memory] {
            let part = document.part(8..end);
            assert_eq!(part.len(), end - 8);
            let nested = part.part(1..end - 9);
            assert!(content(nested).await == text.as_bytes()[9..text.len() - 2]);
            assert_eq!(part.parse::<Vec<String>>().await.unwrap()[0].len(), LARGE);
        }
    }
}
