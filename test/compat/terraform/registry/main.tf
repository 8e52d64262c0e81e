# All resources of the registry, of own CAs and of topic rules, as the Terraform test makes, changes and deletes them.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "csr" { type = string }
variable "ca" { type = string }
variable "changed" {
  type    = bool
  default = false
}

locals {
  team = var.changed ? "blue" : "red"
}

provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  default_tags { tags = { owner = "terraform" } }
  endpoints {
    cognitoidentity = var.endpoint
    cognitoidp      = var.endpoint
    iam             = var.endpoint
    iot             = var.endpoint
    lambda          = var.endpoint
    s3              = var.endpoint
    sts             = var.endpoint
  }
  s3_use_path_style = true
}

provider "aws" {
  alias                   = "plain"
  region                  = "us-east-1"
  skip_metadata_api_check = true
  endpoints {
    s3  = var.endpoint
    sts = var.endpoint
  }
  s3_use_path_style = true
}

data "aws_iot_endpoint" "data" { endpoint_type = "iot:Data-ATS" }
data "aws_iot_registration_code" "it" {}
data "aws_caller_identity" "me" {}

resource "aws_iam_role" "role" {
  name = "devices"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = ["iot.amazonaws.com", "credentials.iot.amazonaws.com"] } }]
  })
  tags = { team = local.team }
}

resource "aws_iam_role_policy" "all" {
  name   = "all"
  role   = aws_iam_role.role.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = ["iot:*", "s3:*", "logs:*"], Resource = "*" }] })
}

resource "aws_iot_thing_type" "lamp" {
  name = "lamp"
  properties {
    description           = "Lamps"
    searchable_attributes = ["colour", "watts"]
  }
  deprecated = var.changed
  tags       = { team = local.team }
}

resource "aws_iot_thing" "lamp" {
  name            = "lamp-1"
  thing_type_name = var.changed ? null : aws_iot_thing_type.lamp.name
  attributes      = { colour = var.changed ? "blue" : "red", watts = "4" }
}

resource "aws_iot_thing" "plain" { name = "plain" }

resource "aws_iot_thing_group" "house" {
  name = "house"
  tags = { team = local.team }
}

resource "aws_iot_thing_group" "room" {
  name              = "room"
  parent_group_name = aws_iot_thing_group.house.name
  properties {
    description = "A room of ${local.team}"
    attribute_payload { attributes = { floor = var.changed ? "2" : "1" } }
  }
}

resource "aws_iot_thing_group_membership" "lamp" {
  thing_name             = aws_iot_thing.lamp.name
  thing_group_name       = aws_iot_thing_group.room.name
  override_dynamic_group = true
}

resource "aws_iot_billing_group" "south" { name = "south" }

resource "aws_iot_thing_type" "plain" { name = "plain" }

resource "aws_iot_thing_group" "tagless" {
  name = "tagless"
  properties { description = "No attributes" }
}

resource "aws_iot_billing_group" "north" {
  name = "north"
  properties { description = "North of ${local.team}" }
  tags = { team = local.team }
}

resource "aws_iot_certificate" "keys" { active = !var.changed }

resource "aws_iot_certificate" "csr" {
  csr    = file(var.csr)
  active = true
}

resource "aws_iot_policy" "lamp" {
  name = "lamp"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = var.changed ? "iot:*" : "iot:Connect", Resource = "*" }]
  })
  tags = { team = local.team }
}

resource "aws_iot_policy_attachment" "certificate" {
  policy = aws_iot_policy.lamp.name
  target = aws_iot_certificate.csr.arn
}

resource "aws_iot_policy_attachment" "group" {
  policy = aws_iot_policy.lamp.name
  target = aws_iot_thing_group.house.arn
}

resource "aws_iot_thing_principal_attachment" "lamp" {
  principal = aws_iot_certificate.csr.arn
  thing     = aws_iot_thing.lamp.name
}

resource "aws_iot_ca_certificate" "own" {
  active                  = true
  allow_auto_registration = var.changed
  ca_certificate_pem      = file(var.ca)
  certificate_mode        = "SNI_ONLY"
  tags                    = { team = local.team }
}

resource "aws_iot_role_alias" "alias" {
  alias               = "devices"
  role_arn            = aws_iam_role.role.arn
  credential_duration = var.changed ? 1800 : 3600
  tags                = { team = local.team }
}

resource "aws_iot_domain_configuration" "site" {
  name         = "site"
  domain_name  = "iot.example.com"
  service_type = "DATA"
  status       = var.changed ? "DISABLED" : "ENABLED"
  tags         = { team = local.team }
}

resource "aws_iot_event_configurations" "events" {
  event_configurations = {
    "THING"                  = true, "THING_GROUP" = false, "THING_TYPE" = false, "THING_GROUP_MEMBERSHIP" = var.changed, "THING_GROUP_HIERARCHY" = false,
    "THING_TYPE_ASSOCIATION" = false, "JOB" = false, "JOB_EXECUTION" = false, "POLICY" = false, "CERTIFICATE" = true, "CA_CERTIFICATE" = false
  }
}

resource "aws_iot_provisioning_template" "jitp" {
  name                  = "jitp"
  type                  = "JITP"
  description           = "For ${local.team}"
  enabled               = !var.changed
  provisioning_role_arn = aws_iam_role.role.arn
  template_body = jsonencode({
    Parameters = { "AWS::IoT::Certificate::CommonName" = { Type = "String" } }
    Resources = {
      thing       = { Type = "AWS::IoT::Thing", Properties = { ThingName = { Ref = "AWS::IoT::Certificate::CommonName" }, AttributePayload = { team = local.team } } }
      certificate = { Type = "AWS::IoT::Certificate", Properties = { CertificateId = { Ref = "AWS::IoT::Certificate::Id" }, Status = "ACTIVE" } }
      policy      = { Type = "AWS::IoT::Policy", Properties = { PolicyName = "lamp" } }
    }
  })
  tags = { team = local.team }
}


resource "aws_s3_bucket" "states" {
  provider      = aws.plain
  bucket        = "states"
  force_destroy = true
}

resource "aws_iot_topic_rule" "rule" {
  name        = "lamps"
  description = "For ${local.team}"
  enabled     = !var.changed
  sql         = "SELECT *, topic(2) AS lamp FROM 'lamps/+/state' WHERE on = true"
  sql_version = "2016-03-23"
  republish {
    role_arn = aws_iam_role.role.arn
    topic    = "lit/$${topic(2)}"
    qos      = 1
  }
  s3 {
    bucket_name = aws_s3_bucket.states.bucket
    key         = "$${topic()}/$${timestamp()}"
    role_arn    = aws_iam_role.role.arn
  }
  cloudwatch_logs {
    log_group_name = "lamps"
    role_arn       = aws_iam_role.role.arn
  }
  error_action {
    republish {
      role_arn = aws_iam_role.role.arn
      topic    = "errors/lamps"
    }
  }
  tags = { team = local.team }
}

resource "aws_iot_logging_options" "logging" {
  default_log_level = var.changed ? "DEBUG" : "INFO"
  disable_all_logs  = false
  role_arn          = aws_iam_role.role.arn
}
