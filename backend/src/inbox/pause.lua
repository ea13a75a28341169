#!lua flags=allow-oom
-- Pauses or resumes a feature.
--
-- KEYS: paused, paused-version
-- ARGV: SADD to pause, SREM to resume; the feature
-- Returns: the new version of the paused features, which each backend confirms
redis.call(ARGV[1], KEYS[1], ARGV[2])
return redis.call('INCR', KEYS[2])
