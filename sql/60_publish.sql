-- Publish: rows without reasons become the run's data, rows with reasons its rejected/ folder.
COPY (SELECT * FROM verdicts) TO 'runs' STORED AS CURATED;
