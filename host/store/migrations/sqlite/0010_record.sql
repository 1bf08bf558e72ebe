-- What an agent runs on, as JSON; it tells as it registers. A task's `record` keeps that of the
-- agent which ran it last, with the digests of what it read.
alter table agent add column machine text;

-- Where a component came from: JSON of what was known when it was pushed.
alter table plugin add column source text;
