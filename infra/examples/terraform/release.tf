# The files of a release, and the keys that they get in the bucket.

variable "release" {
  description = "The folder of the unpacked release"
  type        = string
}

locals {
  template = "${var.release}/cloudformation.json"
  # The template names each zip by its digest.
  zips = { for name in fileset(var.release, "*.zip") :
    "communication-identity/${filesha256("${var.release}/${name}")}/${name}" => "${var.release}/${name}"
  }
}
