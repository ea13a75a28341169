//! A document as the body of a request, between two other pieces of text.

use std::{
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Content, Document, FileRange, PIECE};

/// A body that is read from its file while it is sent. Its length is known from the start.
pub(crate) struct DocumentBody {
    before: Option<Bytes>,
    document: Document,
    after: Option<Bytes>,
    /// The piece of the file that is being read.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl DocumentBody {
    /// Returns a body of `before`, the document and `after`.
    pub(crate) fn new(before: impl Into<Bytes>, document: Document, after: impl Into<Bytes>) -> Self {
        Self { before: Some(before.into()), document, after: Some(after.into()), reading: None }
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or_default()
    }

    /// Returns the whole body if the document is in memory.
    ///
    /// # Errors
    /// Returns the body unchanged if the document is in a file.
    pub(crate) fn into_bytes(self) -> Result<Bytes, Self> {
        let Self { before, document, after, reading } = self;
        match document {
            Document(Content::Memory(bytes)) => {
                Ok([before.unwrap_or_default(), bytes, after.unwrap_or_default()].concat().into())
            }
            document => Err(Self { before, document, after, reading }),
        }
    }

    /// Passes the whole body to `take` piece by piece, together with `inspector`, and returns the
    /// inspector. The body can still be sent afterwards.
    ///
    /// # Errors
    /// If the document's file cannot be read.
    pub(crate) async fn inspect<T: Send + 'static>(
        &self,
        mut inspector: T,
        take: impl Fn(&mut T, &[u8]) + Send + 'static,
    ) -> io::Result<T> {
        let before = self.before.clone().unwrap_or_default();
        let after = self.after.clone().unwrap_or_default();
        let read = move |reader: &mut dyn Read| -> io::Result<T> {
            take(&mut inspector, &before);
            let mut piece = vec![0; PIECE];
            loop {
                match reader.read(&mut piece)? {
                    0 => break,
                    read => take(&mut inspector, &piece[..read]),
                }
            }
            take(&mut inspector, &after);
            Ok(inspector)
        };
        self.document.clone().read(read).await?
    }
}

impl Body for DocumentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(before) = this.before.take() {
            return Poll::Ready(Some(Ok(Frame::data(before))));
        }
        if let Some(reading) = &mut this.reading {
            let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
            this.reading = None;
            return Poll::Ready(Some(read.and_then(|piece| piece).map(Frame::data)));
        }
        match &mut this.document {
            Document(Content::File(file, range)) if !range.is_empty() => {
                let end = range.end.min(range.start + PIECE as u64);
                let mut piece = FileRange { file: file.clone(), range: range.start..end };
                range.start = end;
                this.reading = Some(spawn_blocking(move || {
                    let mut bytes = Vec::with_capacity(PIECE);
                    piece.read_to_end(&mut bytes)?;
                    Ok(bytes.into())
                }));
                // Polls the new task, so that it wakes this one.
                self.poll_frame(context)
            }
            Document(Content::Memory(bytes)) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            _ => Poll::Ready(this.after.take().map(|after| Ok(Frame::data(after)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let around = [&self.before, &self.after].into_iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
        SizeHint::with_exact(around + self.document.len())
    }
}
