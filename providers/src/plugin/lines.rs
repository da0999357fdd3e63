//! Lines of bounded length, read from a pipe.

use tokio::io::{self, AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// What comes next from the pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end. The last one of a pipe may have had none.
    Whole(Vec<u8>),
    /// The beginning of a line that is longer than allowed; the rest is still in the pipe.
    Begun(Vec<u8>),
    /// There is nothing more.
    End,
}

/// Reads one line of at most `longest` bytes, its end not counted.
pub(super) async fn next(
    pipe: &mut (impl AsyncBufRead + Unpin),
    longest: usize,
) -> io::Result<Line> {
    let mut line = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    pipe.take(most).read_until(b'\n', &mut line).await?;
    Ok(if line.pop_if(|last| *last == b'\n').is_some() {
        Line::Whole(line)
    } else if line.len() > longest {
        Line::Begun(line)
    } else if line.is_empty() {
        Line::End
    } else {
        Line::Whole(line)
    })
}

/// Passes over the rest of a line, however long it is.
pub(super) async fn skip(pipe: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let waiting = pipe.fill_buf().await?;
        let (length, ended) = match waiting.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (waiting.len(), waiting.is_empty()),
        };
        pipe.consume(length);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_whole_or_known_to_be_too_long() {
        let mut pipe = &b"one\n\nfour5678\n1234\nlast"[..];
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::Whole(b"one".to_vec()));
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::Whole(Vec::new()));
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::Begun(b"four5".to_vec()));
        skip(&mut pipe).await.expect("skipped");
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::Whole(b"1234".to_vec()));
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::Whole(b"last".to_vec()));
        assert_eq!(next(&mut pipe, 4).await.expect("read"), Line::End);
    }
}
