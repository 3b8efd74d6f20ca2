"""DynamoDB, S3, SQS, EventBridge and Secrets Manager behind the core's ports."""
