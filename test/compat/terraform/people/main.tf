# Pools, providers, roles and a function, as the Terraform test makes, changes and deletes them.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "endpoint" { type = string }
variable "zip" { type = string }
variable "changed" {
  type    = bool
  default = false
}
locals { team = var.changed ? "blue" : "red" }
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
    sts             = var.endpoint
  }
}

resource "aws_iam_role" "function" {
  name               = "function"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }] })
}
resource "aws_lambda_function" "hook" {
  function_name    = "hook"
  role             = aws_iam_role.function.arn
  handler          = "index.handler"
  runtime          = "python3.11"
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  timeout          = var.changed ? 10 : 5
  environment { variables = { TEAM = local.team } }
  tags = { team = local.team }
}
resource "aws_lambda_permission" "cognito" {
  statement_id  = "cognito"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.hook.function_name
  principal     = "cognito-idp.amazonaws.com"
}
resource "aws_cognito_user_pool" "staff" {
  name                     = "staff"
  username_attributes      = ["email"]
  auto_verified_attributes = ["email"]
  mfa_configuration        = "OPTIONAL"
  software_token_mfa_configuration { enabled = true }
  password_policy {
    minimum_length                   = var.changed ? 12 : 10
    require_lowercase                = true
    require_numbers                  = true
    require_symbols                  = false
    require_uppercase                = true
    temporary_password_validity_days = 3
  }
  schema {
    name                = "site"
    attribute_data_type = "String"
    mutable             = true
    string_attribute_constraints {
      min_length = "1"
      max_length = "64"
    }
  }
  account_recovery_setting {
    recovery_mechanism {
      name     = "verified_email"
      priority = 1
    }
  }
  admin_create_user_config { allow_admin_create_user_only = !var.changed }
  verification_message_template { default_email_option = "CONFIRM_WITH_CODE" }
  lambda_config { pre_sign_up = aws_lambda_function.hook.arn }
  tags = { team = local.team }
}
resource "aws_cognito_user_pool_domain" "staff" {
  domain       = "staff-pool"
  user_pool_id = aws_cognito_user_pool.staff.id
}
resource "aws_cognito_resource_server" "api" {
  identifier   = "https://api.example.com"
  name         = "api ${local.team}"
  user_pool_id = aws_cognito_user_pool.staff.id
  scope {
    scope_name        = "read"
    scope_description = "Reads"
  }
}
resource "aws_cognito_user_pool_client" "app" {
  name                                 = "app"
  user_pool_id                         = aws_cognito_user_pool.staff.id
  explicit_auth_flows                  = ["ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH"]
  allowed_oauth_flows                  = ["code"]
  allowed_oauth_flows_user_pool_client = true
  allowed_oauth_scopes                 = ["openid", "email", "https://api.example.com/read"]
  callback_urls                        = ["https://app.example.com/${local.team}"]
  supported_identity_providers         = ["COGNITO"]
  access_token_validity                = var.changed ? 30 : 60
  token_validity_units {
    access_token  = "minutes"
    id_token      = "hours"
    refresh_token = "days"
  }
  depends_on = [aws_cognito_resource_server.api]
}
resource "aws_cognito_user_group" "installers" {
  name         = "installers"
  user_pool_id = aws_cognito_user_pool.staff.id
  description  = "For ${local.team}"
  precedence   = var.changed ? 2 : 1
  role_arn     = aws_iam_role.installer.arn
}
resource "aws_cognito_user" "ann" {
  user_pool_id   = aws_cognito_user_pool.staff.id
  username       = "ann@example.com"
  password       = "Correct-horse-1${local.team}"
  message_action = "SUPPRESS"
  depends_on     = [aws_lambda_permission.cognito]
  attributes     = { email = "ann@example.com", email_verified = true, site = local.team }
}
resource "aws_cognito_user_in_group" "ann" {
  user_pool_id = aws_cognito_user_pool.staff.id
  group_name   = aws_cognito_user_group.installers.name
  username     = aws_cognito_user.ann.username
}
resource "aws_cognito_identity_provider" "oidc" {
  user_pool_id  = aws_cognito_user_pool.staff.id
  provider_name = "corp"
  provider_type = "OIDC"
  provider_details = {
    client_id     = "abc", client_secret = "def-${local.team}", attributes_request_method = "GET", attributes_url_add_attributes = "false", oidc_issuer = "https://id.example.com", authorize_scopes = "openid email",
    authorize_url = "https://id.example.com/a", token_url = "https://id.example.com/t", attributes_url = "https://id.example.com/u", jwks_uri = "https://id.example.com/k"
  }
  attribute_mapping = { email = "email", username = "sub" }
}
resource "aws_cognito_identity_pool" "staff" {
  identity_pool_name               = "staff"
  allow_unauthenticated_identities = false
  allow_classic_flow               = var.changed
  cognito_identity_providers {
    client_id               = aws_cognito_user_pool_client.app.id
    provider_name           = "cognito-idp.us-east-1.amazonaws.com/${aws_cognito_user_pool.staff.id}"
    server_side_token_check = var.changed
  }
  tags = { team = local.team }
}
resource "aws_cognito_identity_pool_provider_principal_tag" "staff" {
  identity_pool_id       = aws_cognito_identity_pool.staff.id
  identity_provider_name = "cognito-idp.us-east-1.amazonaws.com/${aws_cognito_user_pool.staff.id}"
  use_defaults           = false
  principal_tags         = { site = "custom:site" }
}
resource "aws_iam_role" "installer" {
  name                 = "installer"
  max_session_duration = var.changed ? 7200 : 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow", Action = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"], Principal = { Federated = "cognito-identity.amazonaws.com" }
      Condition = { StringEquals = { "cognito-identity.amazonaws.com:aud" = "x" } }
    }]
  })
}
resource "aws_iam_policy" "claims" {
  name   = "claims"
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "iot:CreateProvisioningClaim", Resource = var.changed ? "*" : "arn:aws:iot:us-east-1:000000000000:provisioningtemplate/lamps" }] })
  tags   = { team = local.team }
}
resource "aws_iam_role_policy_attachment" "claims" {
  role       = aws_iam_role.installer.name
  policy_arn = aws_iam_policy.claims.arn
}
resource "aws_iam_user" "robot" {
  name = "robot"
  tags = { team = local.team }
}
resource "aws_iam_group" "robots" { name = "robots" }
resource "aws_iam_user_group_membership" "robot" {
  user   = aws_iam_user.robot.name
  groups = [aws_iam_group.robots.name]
}
resource "aws_iam_access_key" "robot" { user = aws_iam_user.robot.name }
resource "aws_iam_openid_connect_provider" "corp" {
  url             = "https://id.example.com"
  client_id_list  = var.changed ? ["abc", "def"] : ["abc"]
  thumbprint_list = ["cf23df2207d99a74fbe169e3eba035e633b65d94"]
}
resource "aws_cognito_identity_pool_roles_attachment" "staff" {
  identity_pool_id = aws_cognito_identity_pool.staff.id
  roles            = { authenticated = aws_iam_role.installer.arn }
  role_mapping {
    identity_provider         = "cognito-idp.us-east-1.amazonaws.com/${aws_cognito_user_pool.staff.id}:${aws_cognito_user_pool_client.app.id}"
    ambiguous_role_resolution = var.changed ? "Deny" : "AuthenticatedRole"
    type                      = "Rules"
    mapping_rule {
      claim      = "custom:site"
      match_type = "Equals"
      role_arn   = aws_iam_role.installer.arn
      value      = local.team
    }
  }
}
