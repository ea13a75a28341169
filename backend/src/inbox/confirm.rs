//! Waits until what was written is where it has to be: on the server's disk, or on replicas.
//!
//! Waiting blocks a connection, so it has one of its own, and all who came since the last time wait together.

use std::{sync::OnceLock, time::Duration};

use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::InboxError;

/// What to wait for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) needed: Where,
    /// To what the life of a seen key is prolonged by asking for it.
    pub(super) retention: Duration,
}

/// Where it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// On the server's disk (`WAITAOF`).
    Disk,
    /// On so many replicas (`WAIT`).
    Replicas(u8),
}

/// Waits for one server.
pub(super) struct Confirmer {
    client: Client,
    settings: ConnectionManagerConfig,
    demand: Demand,
    questions: OnceLock<mpsc::Sender<Question>>,
}

/// Is what was stored with this key where it has to be?
struct Question {
    seen: String,
    deadline: Instant,
    told: oneshot::Sender<Result<Answer, RedisError>>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    is_there: bool,
    had: u8,
}

/// How many may wait for the next time.
const WAITING: usize = 4_096;

/// A server that takes so much longer to answer than it was to wait has failed.
const GRACE: Duration = Duration::from_secs(1);
/// The part of the time left that the server waits: its answer, which says what is missing, should come in time.
const WAITS: f64 = 0.9;

impl Confirmer {
    /// Asks on a connection of its own, in the runtime of whoever asks first.
    pub(super) fn new(client: Client, settings: ConnectionManagerConfig, demand: Demand) -> Self {
        Self { client, settings, demand, questions: OnceLock::new() }
    }

    /// Waits until what was stored with the key `seen` before this call is where it has to be, until `deadline` at most.
    pub(super) async fn confirm(&self, seen: String, deadline: Instant) -> Result<(), InboxError> {
        let (told, answer) = oneshot::channel();
        let stopped = || InboxError::Server("nobody waits for replicas or the disk any more".to_owned());
        let questions = self.questions.get_or_init(|| {
            let (questions, asked) = mpsc::channel(WAITING);
            tokio::spawn(run(self.client.clone(), self.settings.clone(), asked, self.demand));
            questions
        });
        questions.send(Question { seen, deadline, told }).await.map_err(|_| stopped())?;
        let Answer { is_there, had } = answer.await.map_err(|_| stopped())??;
        if !is_there {
            return Err(InboxError::Server("Redis has lost what it stored a moment ago".to_owned()));
        }
        match self.demand.needed {
            Where::Disk if had == 0 => Err(InboxError::NotOnDisk),
            Where::Replicas(needed) if had < needed => Err(InboxError::TooFewReplicas { needed, had }),
            _ => Ok(()),
        }
    }
}

async fn run(client: Client, settings: ConnectionManagerConfig, mut asked: mpsc::Receiver<Question>, demand: Demand) {
    let connect = || ConnectionManager::new_lazy_with_config(client.clone(), settings.clone());
    let Ok(mut connection) = connect() else { return };
    let retention = millis(demand.retention);
    let mut questions = Vec::new();
    while asked.recv_many(&mut questions, WAITING).await > 0 {
        // As long as the last one of them waits. To Redis 0 would mean for ever.
        let deadline = questions.iter().map(|question| question.deadline).max().unwrap_or_else(Instant::now);
        let left = deadline.saturating_duration_since(Instant::now()).mul_f64(WAITS);
        let patience = millis(left).max(1);
        let mut commands = redis::pipe();
        for question in &questions {
            // Whoever wrote it did so on another connection. Replicas and the disk get all writes in one order, so it is
            // enough that they have one more, of ours, that comes after.
            commands.cmd("PEXPIRE").arg(&question.seen).arg(retention);
        }
        match demand.needed {
            Where::Disk => commands.cmd("WAITAOF").arg(1).arg(0).arg(patience),
            Where::Replicas(replicas) => commands.cmd("WAIT").arg(replicas).arg(patience),
        };
        let answers = match timeout(left + GRACE, commands.query_async(&mut connection)).await {
            Ok(answers) => answers.and_then(read),
            Err(_) => {
                // It may be open to nobody, which the kernel does not always notice.
                if let Ok(another) = connect() {
                    connection = another;
                }
                Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            }
        };
        for (place, question) in questions.drain(..).enumerate() {
            let answer = match &answers {
                Ok((are_there, had)) => {
                    Ok(Answer { is_there: are_there.get(place).copied().unwrap_or_default(), had: *had })
                }
                Err(error) => Err(error.clone()),
            };
            // Nobody may be waiting any more.
            _ = question.told.send(answer);
        }
    }
}

/// Whether each key is there, and then how many have what was written: `WAITAOF` counts disks first, and replicas apart.
fn read(mut answers: Vec<redis::Value>) -> Result<(Vec<bool>, u8), RedisError> {
    let had = match answers.pop() {
        Some(redis::Value::Array(counts)) => counts.into_iter().next(),
        other => other,
    };
    let had = redis::from_redis_value(had.unwrap_or(redis::Value::Int(0)))?;
    Ok((answers.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?, had))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
