//! `seedmill model fetch`: the embedded model's weights, with a progress bar.

use datafusion::common::{DataFusionError, Result};

use super::arguments::ModelCommand;
use super::console::Console;
use super::{EXIT_OK, output};

pub async fn model(command: ModelCommand) -> Result<u8> {
    match command {
        ModelCommand::Fetch => {
            let path = fetch_weights(Console::Plain).await?;
            output::text(&format!("{}\n", path.display()))?;
            Ok(EXIT_OK)
        }
    }
}

/// Fetches the weights where they are not in the cache.
#[cfg(feature = "embedded")]
pub async fn fetch_weights(console: Console) -> Result<std::path::PathBuf> {
    use crate::endpoint::embedded::{FetchEvent, fetch};
    use indicatif::{ProgressBar, ProgressStyle};

    let bar = ProgressBar::hidden();
    bar.set_style(
        ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let show = |event: FetchEvent| match event {
        FetchEvent::Trying { place } => {
            console.note(format_args!("fetching the embedded model's weights from {place}"));
        }
        FetchEvent::Failed { place, reason } => console.note(format_args!("  {place}: {reason}")),
        FetchEvent::Progress { place, bytes, total } => {
            if bar.is_hidden() && console == Console::Plain {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            bar.set_message(place);
            bar.set_length(total);
            bar.set_position(bytes);
        }
    };
    let path = fetch(&show).await.map_err(|e| DataFusionError::External(Box::new(e)));
    bar.finish_and_clear();
    path
}

#[cfg(not(feature = "embedded"))]
pub async fn fetch_weights(_console: Console) -> Result<std::path::PathBuf> {
    Err(DataFusionError::Plan("this binary was built without the feature 'embedded'".to_owned()))
}
