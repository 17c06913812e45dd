//! The stream of an accepted connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Connection;

/// A TCP stream that records the activity of its connection.
pub struct ConnectionStream {
    stream: TcpStream,
    /// Bytes that were read ahead.
    prefix: Bytes,
    connection: Connection,
    bytes_begin_heads: bool,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ConnectionStream {
    /// Creates the stream. `prefix` are bytes that were already read from it.
    pub fn new(stream: TcpStream, connection: Connection, prefix: Bytes) -> Self {
        Self {
            stream,
            prefix,
            connection,
            bytes_begin_heads: true,
            end: None,
        }
    }

    /// States that bytes on an idle connection need not belong to a request, as in HTTP/2, where
    /// they may be pings.
    #[must_use]
    pub fn with_control_frames(mut self) -> Self {
        self.bytes_begin_heads = false;
        self
    }

    /// Makes reads fail when the connection has to end or `server_ended` is cancelled, for a server
    /// whose connections nothing else can end.
    #[must_use]
    pub fn with_end(mut self, server_ended: CancellationToken) -> Self {
        let connection = self.connection.clone();
        self.end = Some(Box::pin(async move {
            server_ended.run_until_cancelled(connection.expired()).await;
        }));
        self
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(self.prefix.get(..length).unwrap_or_default());
        self.prefix.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ConnectionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            // A completed future must not be polled again.
            self.end = Some(Box::pin(std::future::ready(())));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let polled = self.poll_inner(cx, buffer);
        if self.bytes_begin_heads && buffer.filled().len() > before {
            self.connection.receive();
        }
        polled
    }
}

impl AsyncWrite for ConnectionStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
