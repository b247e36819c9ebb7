# Deploys a release by Terraform. CloudFormation makes the resources, so the stack stays one unit with its own rollback.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  description = "A bucket in the Region of the stack, for the zips and the template"
  type        = string
}

variable "parameters" {
  description = "The parameters of the template, like ResourceId"
  type        = map(string)
}

data "aws_s3_bucket" "files" {
  bucket = var.bucket
}

resource "aws_s3_object" "zip" {
  for_each = local.zips
  bucket   = data.aws_s3_bucket.files.id
  key      = each.key
  source   = each.value
}

# The template is too large for the argument template_body.
resource "aws_s3_object" "template" {
  bucket = data.aws_s3_bucket.files.id
  key    = "communication-identity/${filesha256(local.template)}/cloudformation.json"
  source = local.template
}

resource "aws_cloudformation_stack" "identity" {
  name         = "identity"
  template_url = "https://${data.aws_s3_bucket.files.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  parameters   = merge(var.parameters, { CodeBucket = var.bucket })
  capabilities = ["CAPABILITY_IAM"]
  depends_on   = [aws_s3_object.zip]
}

output "endpoint" {
  value = aws_cloudformation_stack.identity.outputs["Endpoint"]
}
